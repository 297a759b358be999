"""The shipped model under the real method: killed, shared by processes, spread over devices."""

import json
import signal
import time

import jax
import numpy as np
import pytest

from asg_jax.methods.base import TrainState
from asg_jax.models.registry import open_model
from asg_jax.models import peft
from asg_jax.train.evolve.checkpoints import Checkpoints
from asg_jax.train.evolve.logs import read_metrics
from asg_jax.train.evolve.run import PICTURE, SUMMARY
from tests.train.evolve.processes import ...
