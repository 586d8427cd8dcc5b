"""Work for a GPU, recorded as a CUDA graph, so that the CPU asks for all of it at once."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor


class Recorded:
    """``function`` of tensors on a GPU, recorded when it is called for the second time.

    It may neither wait for the GPU nor branch on values, and is called with tensors of the same shapes each time; they
    are copied in. What a call returns is written over by the next one.
    """

    def __init__(self, function: Callable[..., Tensor]) -> None:
        self._function = function
        self._calls = 0
        self._graph = torch.cuda.CUDAGraph()
        self._inputs: list[Tensor] = []
        self._output: Tensor | None = None

    def __call__(self, *inputs: Tensor) -> Tensor:
        """The function's value for ``inputs``, all on one GPU."""
        self._calls += 1
        if self._calls == 1 or torch.cuda.is_current_stream_capturing():  # the first call also loads the kernels
            return self._function(*inputs)
        with torch.cuda.device(inputs[0].device), torch.inference_mode(False):  # what is kept is written to again
            if self._output is None:
                self._inputs = [each.clone() for each in inputs]
                # The data loader's threads of a user may go on meanwhile: only this thread's calls are restricted.
                with torch.cuda.graph(self._graph, capture_error_mode="thread_local"):
                    self._output = self._function(*self._inputs)
            for own, given in zip(self._inputs, inputs, strict=True):
                own.copy_(given)
            self._graph.replay()
        return self._output
