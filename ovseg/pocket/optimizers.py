"""Two optimisers as one: a recipe may train its matrices by another rule than its other weights."""

from torch.optim import Optimizer


class OptimizerPair:
    """Two optimisers of different parameters, as one."""

    def __init__(self, first: Optimizer, second: Optimizer) -> None:
        self.both = (first, second)

    @property
    def param_groups(self) -> list[dict]:
        """The groups of both."""
        return [group for optimizer in self.both for group in optimizer.param_groups]

    def zero_grad(self, set_to_none: bool = True) -> None:
        """Forget the gradients of both."""
        for optimizer in self.both:
            optimizer.zero_grad(set_to_none)

    def step(self) -> None:
        """One step of both."""
        for optimizer in self.both:
            optimizer.step()

    def state_dict(self) -> dict:
        """The states of both, the second's parameters counted on behind the first's."""
        first, second = (optimizer.state_dict() for optimizer in self.both)
        behind = self._count
        state = first["state"] | {behind + index: moments for index, moments in second["state"].items()}
        return {"state": state, "param_groups": [*first["param_groups"], *second["param_groups"]]}

    def load_state_dict(self, saved: dict) -> None:
        """Load what `state_dict` gave."""
        cut, behind = len(self.both[0].param_groups), self._count
        first = {index: moments for index, moments in saved["state"].items() if index < behind}
        second = {index - behind: moments for index, moments in saved["state"].items() if index >= behind}
        self.both[0].load_state_dict({"state": first, "param_groups": saved["param_groups"][:cut]})
        self.both[1].load_state_dict({"state": second, "param_groups": saved["param_groups"][cut:]})

    @property
    def _count(self) -> int:
        return sum(len(group["params"]) for group in self.both[0].param_groups)


AnyOptimizer = Optimizer | OptimizerPair
"""What a training steps with."""
