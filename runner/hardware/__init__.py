"""What shows on a real accelerator that this program is right there: ``python -m runner.hardware``.

Stages of some minutes, each made of runs of ``python -m runner`` and of what their rows must say.
"""
