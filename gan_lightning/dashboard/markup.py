"""Pieces of the page as HTML: every text from a run is escaped here."""

import json
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from html import escape

from gan_lightning.dashboard.run_folders import FoundRuns
from gan_lightning.dashboard.sentences import Question
from gan_lightning.system.trial_states import in_words


def answers(questions: Sequence[Question]) -> str:
    """Return the sentences; the first has its table open."""
    return "".join(_answer(question, first=i == 0) for i, question in enumerate(questions))


def _answer(question: Question, first: bool) -> str:
    said = f"<b>{escape(question.verdict)}.</b> " if question.verdict else ""
    doubt = f'<span class="doubt">{escape(_doubt(question))}</span>' if question.doubt else ""
    command = f'<pre class="command" tabindex="0">{escape(question.command)}</pre>' if question.command else ""
    rows = table(question.rows) if question.rows else ""
    shown = f"<details{' open' if first else ''}><summary>Setting by setting</summary>{rows}</details>" if rows else ""
    made = f'<details class="made"><summary>How this was made</summary><p>{escape(question.made)}</p></details>'
    kind = "answer" if question.beats_controls else "answer weak"
    return (
        f'<article class="{kind}"><h2>{escape(question.title)}</h2>'
        f'<p class="sentence">{said}{escape(question.answer)}. {doubt}</p>{command}{shown}{made}</article>'
    )


def _doubt(question: Question) -> str:
    text = question.doubt if question.verdict or question.command else f"No verdict: {question.doubt}"
    return f"{text[:1].upper()}{text[1:]}."


def table(rows: Sequence[Mapping[str, str]]) -> str:
    """Return a table of texts; each row may lack columns."""
    columns = list(dict.fromkeys(name for row in rows for name in row))
    head = "".join(f'<th scope="col">{escape(column)}</th>' for column in columns)
    body = "".join(
        "<tr>" + "".join(_cell(column, row.get(column, "-")) for column in columns) + "</tr>" for row in rows
    )
    return f'<div class="scroll"><table><thead><tr>{head}</tr></thead><tbody>{body}</tbody></table></div>'


_SHORT_CELL = 24
"""Letters of a cell that stay on one line."""


def _cell(column: str, text: str) -> str:
    kind = ' class="short"' if len(text) <= _SHORT_CELL else ""
    return f'<td data-title="{escape(column)}"{kind}>{escape(text)}</td>'


def status(found: FoundRuns) -> str:
    """Return the state of the sweeps, in the words of their command, and of single runs."""
    lines = []
    for sweep in dict.fromkeys(trial["sweep"] for trial in found.trials):
        own = [trial for trial in found.trials if trial["sweep"] == sweep]
        states = [trial["status"] for trial in own]
        total = (found.sweeps.get(sweep) or {}).get("total") or len(own)
        to_come = total - len(own) + states.count("chosen")
        stands = in_words(states, total) + (f", {to_come} to come" if to_come > 0 else "")
        failed = [trial for trial in own if trial["status"] in ("failed", "killed")]
        errors = "".join(
            f"<li>trial {trial['index']}, {escape(json.dumps(trial['parameters'], ensure_ascii=False))}: "
            f"{escape(str(trial['error'] or trial['status']))}</li>"
            for trial in failed
        )
        line = f"<b>{escape(sweep)}</b>: {stands}"
        lines.append(f"<details><summary>{line}</summary><ul>{errors}</ul></details>" if errors else f"<p>{line}</p>")
    single = Counter(run.status for run in found.unmeasured if not run.sweep)
    if single:
        words = ", ".join(f"{count} {state}" for state, count in sorted(single.items()))
        lines.append(f"<p>Single runs without figures: {escape(words)}</p>")
    return f'<section id="status" class="notice">{"".join(lines)}</section>' if lines else ""


def notices(title: str, kind: str, lines: Iterable[str]) -> str:
    """Return a closed list of remarks; nothing for no remark."""
    items = "".join(f"<li>{line}</li>" for line in lines)
    return (
        f'<details class="notice" id="{kind}"><summary>{escape(title)}</summary><ul>{items}</ul></details>'
        if items
        else ""
    )


def left_out(found: FoundRuns) -> str:
    """List the folders that were not drawn, with the reasons."""
    count = len(found.left_out)
    title = f"{count} {'folder was' if count == 1 else 'folders were'} left out"
    return notices(title, "left-out", (f"<b>{escape(out.name)}</b>: {escape(out.reason)}" for out in found.left_out))
