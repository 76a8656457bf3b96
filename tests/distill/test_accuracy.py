"""Accuracy where a network has batch norm: judged by the training images' statistics, whatever is judged with it."""

import torch
from support import small

from distill import rng
from distill.accuracy import accuracy
from distill.data.base import Split
from distill.engine.inner import SGD, InnerStep


def test_batch_norm_answers_for_one_image_as_for_all_when_it_knows_the_training_images():
    context = small.context("trajectory", "network.norm=batch")
    step, (train, test) = InnerStep(context.network, SGD()), (context.data.train, context.data.test)
    theta = context.network.init(rng.generator(0, "x"))
    with torch.no_grad():
        answers = context.network(theta, test.x, context.network.statistics(theta, [train.x])).argmax(1)
    judged = Split(test.x, answers)
    assert accuracy(step, theta, judged, seen=train.x.split(len(train))) == 1.0
    assert accuracy(step, theta, judged, batch=1, seen=train.x.split(len(train))) == 1.0
    assert accuracy(step, theta, judged, batch=1) < 1.0


def test_other_networks_ask_for_no_training_image():
    context = small.context("trajectory")
    step, theta = InnerStep(context.network, SGD()), context.network.init(rng.generator(0, "x"))

    def never():
        raise AssertionError("an image was asked for")
        yield

    test = context.data.test
    assert accuracy(step, theta, test, seen=never()) == accuracy(step, theta, test)
