"""All checks by their names."""

from contract import fitted, inputs, lists, process

CHECKS = {
    name.removeprefix("check_"): check
    for room in (lists, inputs, fitted, process)
    for name, check in vars(room).items()
    if name.startswith("check_") and check.__module__ == room.__name__
}
