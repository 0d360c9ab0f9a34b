"""The training step that the torch-API cases share."""

from benchmarks.case import Program


def training_program(model, loss_function, optimizer, inputs, target):
    """Program of one step: clear gradients, forward, backward, update."""

    def step(inputs, target):
        optimizer.zero_grad()
        loss = loss_function(model(inputs), target)
        loss.backward()
        optimizer.step()
        return loss

    return Program(step, (inputs, target))
