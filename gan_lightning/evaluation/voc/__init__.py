"""PASCAL VOC: images with labels, boxes and masks, and what a network that was trained on other images is worth there.

devkit.py reads the data set as distributed.
"""
