"""Any bytes give a module, a LoadError or a ValidationError."""

from __future__ import annotations

import pytest

from tests.runtime.mutations import SEEDS, mutated
from tests.wat import wat
from wasmedge_runtime import Loader, LoadError, ValidationError, Validator

CASES = 20_000
BLOCK = 2_500


@pytest.mark.parametrize("text", SEEDS)
def test_the_modules_that_are_damaged_are_valid(text: str) -> None:
    ast = Loader().load_buffer(wat(text))

    Validator().validate(ast)

    assert ast.validated


@pytest.mark.parametrize("first", range(0, CASES, BLOCK))
def test_a_damaged_module_is_accepted_or_refused_with_its_offset(first: int) -> None:
    accepted = malformed = invalid = 0
    for seed in range(first, first + BLOCK):
        data = mutated(seed)
        try:
            ast = Loader().load_buffer(data)
            Validator().validate(ast)
            accepted += 1
        except LoadError as error:
            malformed += 1
            refusal: LoadError | ValidationError = error
        except ValidationError as error:
            invalid += 1
            refusal = error
        else:
            assert ast.validated
            continue
        assert refusal.offset is not None, seed
        assert 0 <= refusal.offset <= len(data), seed
        assert refusal.message.endswith(f"(at offset {refusal.offset:#x})"), seed
    # The changes are such that each stage is reached.
    assert min(accepted, malformed, invalid) > BLOCK // 50
