"""The measurements that README and notebooks quote; `workbench bench WHAT` runs one.

command.py         what there is, and the files of figures
goals.py           goals, and figures as text
small.py           a step, the worlds, start-up, a recipe with several seeds
cache.py           what keeping the teacher's answers costs
sliders.py         a move of the explorer's slider; browser.py finds a Chromium for it
mlm_head.py        scoring hidden words only
vocabulary.py      the loss over 50,257 tokens in chunks
sizes.py, biobert_study.py, costs.py, speedups.py
                   what students of all sizes and terms are worth, and what they cost
serving.py         a student at work: latency under load, several students in one's time
portable.py        what exported models cost and lose
peers/             a step and a grid against the tools that others use
"""
