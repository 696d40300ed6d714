#!/usr/bin/env bash
# Everything that has to be measured on a GPU, in one go of at most eight minutes, and a table of it:
#
#   bash benchmarks/gpu.sh --data data --output runs/gpu
#
#   --data FOLDER     where MNIST lies; without it the whole trainings are left out
#   --output FOLDER   of the results; a new one
#   --wheels FOLDER   packages as .whl files that Python lacks here; they are unpacked, not installed
#   --seconds N       for all; a part that would begin later is left out
#   --small           on the CPU, with everything small, to see that it runs
#
# It needs bash and a Python with the packages that gan-lightning needs, and nothing installed: it takes the source tree
# that it lies in. PYTHON may name the Python. Each part has a time limit of its own. What fails is shown, the rest goes
# on, and the status is then 1.
set -u

root=$(cd "$(dirname "${BASH_SOURCE[0]}")/.." && pwd)
python=${PYTHON:-$(command -v python || command -v python3)}
data="" output="" wheels="" small="" total=470 slower=1
while [ $# -gt 0 ]; do
  case $1 in
    --small) small=1 total=1800 slower=3 ;;
    --data) data=$(cd "${2:?--data needs a folder}" && pwd) || exit 2; shift ;;
    --output) output=${2:?--output needs a folder}; shift ;;
    --wheels) wheels=$(cd "${2:?--wheels needs a folder}" && pwd) || exit 2; shift ;;
    --seconds) total=${2:?--seconds needs a number}; shift ;;
    *) echo "gpu.sh: unknown argument $1; the first lines of the file say what there is." >&2; exit 2 ;;
  esac
  shift
done
output=${output:-runs/gpu-$(date +%Y%m%d-%H%M%S)}
mkdir -p "$output" && output=$(cd "$output" && pwd) || exit 2
if [ -n "$(ls -A "$output")" ]; then
  echo "gpu.sh: --output must be a new folder, got $output with files in it." >&2
  exit 2
fi
cd "$root" || exit 2
export PYTHONPATH=$root${PYTHONPATH:+:$PYTHONPATH} PYTHONUNBUFFERED=1
if [ -n "$wheels" ]; then
  for wheel in "$wheels"/*.whl; do "$python" -m zipfile -e "$wheel" "$output/packages" || exit 2; done
  export PYTHONPATH=$PYTHONPATH:$output/packages
fi

failed="" left_out=""

# part NAME SECONDS COMMAND...: runs a command with a time limit, its output in NAME.log.
part() {
  local name=$1 limit=$(($2 * slower)) began=$SECONDS status
  shift 2
  if [ "$limit" -gt $((total - SECONDS)) ]; then limit=$((total - SECONDS)); fi
  if [ "$limit" -lt 10 ]; then
    echo "$name: left out, there is no time left"
    failed="$failed $name"
    return
  fi
  echo "$name: at most $limit s, in $output/$name.log"
  timeout -k 10 "$limit" "$@" >"$output/$name.log" 2>&1
  status=$?
  if [ $status -eq 0 ]; then
    echo "$name: done in $((SECONDS - began)) s"
  else
    [ $status -eq 124 ] && echo "$name: stopped at its limit of $limit s" || echo "$name: failed with status $status"
    echo "--- the last lines of $name.log"
    tail -n 30 "$output/$name.log"
    echo "---"
    failed="$failed $name"
  fi
}

leave_out() {
  echo "$1: left out, $2"
  left_out="$left_out $1"
}

if [ -n "$small" ]; then
  device=cpu
  sizes=(--small --seconds 1 --rounds 2)
  variants=(--variants default graph graph+recommended)
else
  device=cuda
  sizes=(--seconds 5 --rounds 5)
  variants=()
fi
part machine 60 "$python" -m benchmarks.gpu_table --machine "$device"
if [ -n "$failed" ]; then exit 1; fi
cat "$output/machine.log"

tests=$(grep -rl 'mark\.gpu' tests)
if [ -z "$tests" ]; then
  leave_out tests "none needs a GPU"
elif ! "$python" -c 'import pytest, hypothesis, beartype' 2>/dev/null; then
  leave_out tests "pytest, hypothesis and beartype are not all there"
else
  part tests 120 "$python" -m pytest -q -m gpu --durations=10 -p no:cacheprovider $tests
fi

part rows 200 "$python" -m benchmarks --device "$device" --rows mgan dcgan bigan selfexgan replay evaluation \
  "${sizes[@]}" ${variants[@]+"${variants[@]}"} --output "$output/rows" ${data:+--data_root "$data"}
part profiles 60 "$python" -m benchmarks --device "$device" --rows mgan dcgan bigan --profile \
  --variants default graph graph+recommended "${sizes[@]}" --output "$output/profiles"

# Whole trainings, as from the command line.
graph=(--speed.graph=true --trainer.log_every_n_steps=50 --trainer.logger=false --trainer.enable_progress_bar=false
  --trainer.callbacks+=benchmarks.epoch_clock.EpochClock)
bigan=(--config configs/bigan/permutation_invariant_mnist.yaml)
mgan=(--config=configs/mgan/base.yaml)
if [ -n "$small" ]; then
  bigan+=(--config configs/bigan/digits.yaml --trainer.max_epochs=3 --trainer.accelerator=cpu)
  mgan+=(--config=configs/data/digits.yaml --model.init_args.base_width=4 --trainer.accelerator=cpu)
  epochs=2 of_all="0, 4"
else
  bigan+=(--data.init_args.root="$data" --trainer.accelerator=gpu --trainer.devices=1)
  mgan+=(--config=configs/data/mnist.yaml --data.init_args.root="$data" --speed.channels_last=true
    --trainer.accelerator=gpu --trainer.devices=1)
  epochs=2 of_all="0, 1, 2, 3, 4"
fi

# sweep WORKERS SHARES SECONDS: a trial for each number of removed shares, so many at a time.
sweep() {
  local word file=$output/table-2-$1.yaml
  printf '%s\n' "program: gan-lightning" "name: table-2" "method: grid" "parameters:" \
    "  model.init_args.shares_removed: {values: [$2]}" "  seed_everything: {values: [0]}" "command:" \
    '  - ${env}' '  - ${program}' "  - fit" >"$file"
  for word in "${mgan[@]}" "${graph[@]}" --trainer.max_epochs=$epochs --config; do echo "  - $word" >>"$file"; done
  echo '  - ${args_json_file}' >>"$file"
  part "sweep-$1" "$3" "$python" -m gan_lightning sweep "$file" --workers "$1" --dir "$output/sweep-$1"
}

if [ -z "$data$small" ]; then
  leave_out bigan "MNIST has to be named by --data"
  leave_out sweeps "MNIST has to be named by --data"
else
  part bigan 120 "$python" -m gan_lightning fit "${bigan[@]}" "${graph[@]}" --speed.steps_per_call=50 \
    --trainer.limit_val_batches=0 --density_ratio.every_n_batches=0 --run.root="$output/bigan"
  sweep 3 "$of_all" 90
  sweep 2 "$of_all" 90
  sweep 1 "0, 4" 90
fi

echo
"$python" -m benchmarks.gpu_table "$output" | tee "$output/table.md"
[ "${PIPESTATUS[0]}" -eq 0 ] || failed="$failed table"
echo "All of it took $SECONDS s; it lies in $output."
if [ -n "$left_out" ]; then echo "Left out:$left_out."; fi
if [ -n "$failed" ]; then
  echo "Failed:$failed."
  exit 1
fi
