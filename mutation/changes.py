"""The mutants of a module."""

from __future__ import annotations

import ast
import difflib
import re
from typing import TYPE_CHECKING, NamedTuple

from cosmic_ray.ast import ast_nodes, get_ast
from cosmic_ray.mutating import mutate_code
from cosmic_ray.plugins import get_operator, operator_names

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

_OPERATORS = re.compile(
    r"""core/(
    AddNot | ZeroIterationForLoop | NumberReplacer | ExceptionReplacer | RemoveDecorator
    | ReplaceTrueWithFalse | ReplaceFalseWithTrue | ReplaceAndWithOr | ReplaceOrWithAnd
    | ReplaceBreakWithContinue | ReplaceContinueWithBreak
    | ReplaceUnaryOperator_(Delete_Not | Delete_USub)
    | ReplaceComparisonOperator_(
        Eq_NotEq | NotEq_Eq | Is_IsNot | IsNot_Is
        | Lt_LtE | Lt_GtE | LtE_Lt | LtE_Gt | Gt_GtE | Gt_LtE | GtE_Gt | GtE_Lt)
    | ReplaceBinaryOperator_(
        Add_Sub | Sub_Add | Mul_Div | Div_Mul | FloorDiv_Mul | Mod_Mul | Pow_Mul
        | LShift_RShift | RShift_LShift | BitOr_BitAnd | BitAnd_BitOr)
    )""",
    re.VERBOSE,
)
"""One or two replacements for each operator: further ones are killed by the same tests."""


class Spot(NamedTuple):
    """A place in a module that can be changed."""

    operator: str
    occurrence: int


class Mutant(NamedTuple):
    """A module with one change."""

    module: str
    path: Path
    """Inside the package's folder."""
    code: str
    diff: str

    @property
    def change(self) -> tuple[str, ...]:
        """The lines that go and come, by which an explanation names the mutant."""
        lines = self.diff.splitlines()[2:]
        return tuple(f"{line[0]} {line[1:].strip()}" for line in lines if line[0] in "-+")


def spots(source: str) -> Iterator[Spot]:
    """Every place of a module that an operator of Cosmic Ray can change."""
    nodes = list(ast_nodes(get_ast(source)))
    for name in filter(_OPERATORS.fullmatch, operator_names()):
        operator = get_operator(name)()
        positions = sum(len(list(operator.mutation_positions(node))) for node in nodes)
        yield from (Spot(name, occurrence) for occurrence in range(positions))


def mutated(module: str, path: Path, source: str, spot: Spot) -> Mutant | None:
    """Change a module in one place; None where nothing that runs is changed."""
    code = mutate_code(source, get_operator(spot.operator)(), spot.occurrence)
    if code is None or not _runs_otherwise(source, code):
        return None
    before, after = source.splitlines(keepends=True), code.splitlines(keepends=True)
    diff = difflib.unified_diff(before, after, str(path), str(path), n=2)
    return Mutant(module, path, code, "".join(diff))


def _runs_otherwise(source: str, code: str) -> bool:
    try:
        return _executed(source) != _executed(code)
    except SyntaxError:
        return False


def _executed(code: str) -> str:
    """What of a module is executed, in one form however it is written."""
    return ast.dump(_Executed().visit(ast.parse(code)))


class _Executed(ast.NodeTransformer):
    """Leaves out annotations, which stay texts, imports for types alone, and `*` of parameters.

    Cosmic Ray takes the `*` before parameters that have to be named for a product.
    """

    def visit_arguments(self, node: ast.arguments) -> ast.AST:
        node.args = [*node.posonlyargs, *node.args, *node.kwonlyargs]
        node.defaults += [default for default in node.kw_defaults if default]
        node.posonlyargs, node.kwonlyargs, node.kw_defaults = [], [], []
        return self.generic_visit(node)

    def visit_arg(self, node: ast.arg) -> ast.arg:
        node.annotation = None
        return node

    def visit_AnnAssign(self, node: ast.AnnAssign) -> ast.AST:
        node.annotation = ast.Constant(None)
        return self.generic_visit(node)

    def visit_FunctionDef(self, node: ast.FunctionDef) -> ast.AST:
        node.returns = None
        return self.generic_visit(node)

    def visit_AsyncFunctionDef(self, node: ast.AsyncFunctionDef) -> ast.AST:
        node.returns = None
        return self.generic_visit(node)

    def visit_If(self, node: ast.If) -> ast.AST | None:
        return None if "TYPE_CHECKING" in ast.unparse(node.test) else self.generic_visit(node)
