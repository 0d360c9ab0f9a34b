"""Optimizers and learning rate schedules."""
from jtorch.optim import lr_scheduler
from jtorch.optim.lbfgs import LBFGS
from jtorch.optim.optimizer import Optimizer
from jtorch.optim.rules import ASGD, SGD, Adadelta, Adagrad, Adam, Adamax, AdamW, NAdam, RAdam, RMSprop, Rprop

__all__ = ["ASGD", "Adadelta", "Adagrad", "Adam", "AdamW", "Adamax", "LBFGS", "NAdam", "Optimizer", "RAdam", "RMSprop",
           "Rprop", "SGD", "lr_scheduler"]
