"""Kernel text -> Numba's IR, straight from the syntax tree.

Numba's own way there is through CPython's bytecode: it interprets that symbolically to find the expressions again,
and computes lifetimes for reference counts. The kernel language (docs/kernels.md) has neither objects nor exceptions,
so its blocks and expressions can be read off the tree, with fewer copies between variables.

This module imports Numba; import it only when a kernel must be compiled.
"""
from __future__ import annotations

import ast
import builtins
import operator
from collections import Counter, defaultdict
from collections.abc import Callable, Sequence
from typing import Any

from numba.core import ir
from numba.core.bytecode import FunctionIdentity

from jtorch.runtime.intrinsics import NAMES

BINARY = {ast.Add: operator.add, ast.Sub: operator.sub, ast.Mult: operator.mul, ast.Div: operator.truediv,
          ast.FloorDiv: operator.floordiv, ast.Mod: operator.mod, ast.Pow: operator.pow, ast.BitAnd: operator.and_,
          ast.BitOr: operator.or_, ast.BitXor: operator.xor, ast.LShift: operator.lshift, ast.RShift: operator.rshift}
COMPARISON = {ast.Lt: operator.lt, ast.LtE: operator.le, ast.Gt: operator.gt, ast.GtE: operator.ge,
              ast.Eq: operator.eq, ast.NotEq: operator.ne}
UNARY = {ast.USub: operator.neg, ast.UAdd: operator.pos, ast.Invert: operator.invert, ast.Not: operator.not_}


def kernel() -> None:
    """Stands for every kernel where Numba asks for the Python function."""


_IDENTITY = FunctionIdentity.from_function(kernel)


class KernelReader:
    """Reads one kernel. `function_ir` is what Numba types and lowers.

    `values` are the variables that need no place in memory: written once, and read only where that has happened.

    >>> reader = KernelReader("def kernel(x, begin, end, worker):\\n    x[begin] = 1.0", "<kernel>")
    >>> sorted(reader.values)
    ['$0', '$1', 'begin', 'end', 'worker', 'x']
    """

    def __init__(self, source: str, file: str):
        module = ast.parse(source, file)
        *imports, function = module.body
        assert isinstance(function, ast.FunctionDef)
        self.names = dict(NAMES)
        exec(compile(ast.Module(imports, []), file, "exec"), self.names)
        self.loc = ir.Loc(file, function.lineno)
        self.variables: dict[str, ir.Var] = {}
        self.written: Counter[str] = Counter()
        self.in_memory: set[str] = set()
        self.open: list[set[str]] = [set()]  # what has been written on the way here, per block of statements
        self.loops: list[tuple[int, int]] = []  # where `continue` and `break` go
        self.functions: dict[str, ir.Var] = {}
        self.scope = ir.Scope(None, self.loc)
        self.blocks: dict[int, ir.Block] = {}
        self.labels = self.temporaries = 0
        self.reached = {0}
        self.block: ir.Block | None = None
        self.begin(self.label())
        self.entry = self.block
        arguments = [a.arg for a in function.args.args]
        for i, name in enumerate(arguments):
            self.write(name, ir.Arg(name, i, self.loc))
        first = len(arguments)
        self.statements(function.body)
        if self.block is not None:
            self.end(ir.Return(self.assigned(ir.Const(None, self.loc)), self.loc))
        for name in self.in_memory - set(self.written):
            raise NameError(f"name {name!r} is not defined")
        self.entry.body[first:first] = [ir.Assign(ir.Global(name, self.names[name], self.loc), v, self.loc)
                                        for name, v in self.functions.items()]
        self.values = {name for name, n in self.written.items() if n == 1} - self.in_memory
        self.values.update([v.name for v in self.functions.values()])
        self.function_ir = ir.FunctionIR(self.blocks, False, _IDENTITY, self.loc, defaultdict(list), len(arguments),
                                         arguments)

    # --- blocks and variables ---

    def label(self) -> int:
        self.labels += 1
        return self.labels - 1

    def begin(self, label: int) -> None:
        """What follows is in block `label`, if anything leads there."""
        if label in self.reached:
            self.block = self.blocks[label] = ir.Block(self.scope, self.loc)

    def end(self, terminator: Any, *targets: int) -> None:
        self.block.body.append(terminator)
        self.reached.update(targets)
        self.block = None

    def jump(self, label: int) -> None:
        if self.block is not None:
            self.end(ir.Jump(label, self.loc), label)

    def variable(self, name: str) -> ir.Var:
        found = self.variables.get(name)
        if found is None:
            found = self.variables[name] = ir.Var(None, name, self.loc)
        return found

    def write(self, name: str, value: Any) -> ir.Var:
        if name in self.functions:
            raise SyntaxError(f"{name} is a function, and then a variable: line {self.loc.line}")
        target = self.variable(name)
        self.block.body.append(ir.Assign(value, target, self.loc))
        self.written[name] += 1
        self.open[-1].add(name)
        return target

    def read(self, name: str) -> ir.Var:
        if not any(name in written for written in self.open):
            self.in_memory.add(name)
        return self.variable(name)

    def temporary(self) -> str:
        self.temporaries += 1
        return f"${self.temporaries - 1}"

    def assigned(self, value: Any) -> ir.Var:
        return self.write(self.temporary(), value)

    # --- statements ---

    def statements(self, nodes: Sequence[ast.stmt]) -> None:
        for node in nodes:
            if self.block is None:  # after `break` or `continue`
                return
            self.loc = ir.Loc(self.loc.filename, node.lineno)
            self.visit("statement", node)

    def body(self, nodes: Sequence[ast.stmt]) -> None:
        """Statements that may be left out, or run again."""
        self.open.append(set())
        self.statements(nodes)
        self.open.pop()

    def visit(self, role: str, node: ast.AST) -> Any:
        method = getattr(self, f"{role}_{type(node).__name__}", None)
        if method is None:
            raise SyntaxError(f"a kernel cannot contain {type(node).__name__}: line {self.loc.line}")
        return method(node)

    def statement_Assign(self, node: ast.Assign) -> None:
        for target in node.targets:
            self.assign(target, node.value)

    def assign(self, target: ast.expr, node: ast.expr) -> None:
        if isinstance(target, ast.Name):
            self.write(target.id, self.expression(node))
        elif isinstance(target, ast.Subscript):
            value = self.value(node)
            pointer, index = self.value(target.value), self.value(target.slice)
            self.block.body.append(ir.SetItem(pointer, index, value, self.loc))
        else:
            raise SyntaxError(f"a kernel cannot assign to {type(target).__name__}: line {self.loc.line}")

    def statement_AugAssign(self, node: ast.AugAssign) -> None:
        self.assign(node.target, ast.BinOp(node.target, node.op, node.value))

    def statement_Expr(self, node: ast.Expr) -> None:
        self.value(node.value)

    def statement_Pass(self, node: ast.Pass) -> None:
        pass

    def statement_Break(self, node: ast.Break) -> None:
        self.jump(self.loops[-1][1])

    def statement_Continue(self, node: ast.Continue) -> None:
        self.jump(self.loops[-1][0])

    def statement_If(self, node: ast.If) -> None:
        then, otherwise, after = self.label(), self.label(), self.label()
        self.branch(node.test, then, otherwise)
        for label, nodes in ((then, node.body), (otherwise, node.orelse)):
            self.begin(label)
            self.body(nodes)
            self.jump(after)
        self.begin(after)

    def statement_While(self, node: ast.While) -> None:
        def test(inside: int, after: int) -> None:
            self.branch(node.test, inside, after)
        self.loop(test, node.body)

    def statement_For(self, node: ast.For) -> None:
        """On a hidden counter, which is one step ahead in the body. The step is positive, or a negative literal."""
        call = node.iter
        if not (isinstance(call, ast.Call) and isinstance(call.func, ast.Name) and call.func.id == "range"
                and isinstance(node.target, ast.Name)):
            raise SyntaxError(f"a kernel can only loop over range(): line {node.lineno}")
        args = call.args
        counter, target = self.temporary(), node.target.id
        self.write(counter, self.value(args[0] if len(args) > 1 else ast.Constant(0)))
        stop = self.value(args[1] if len(args) > 1 else args[0])
        step = self.value(args[2] if len(args) > 2 else ast.Constant(1))
        more = operator.gt if len(args) > 2 and isinstance(args[2], ast.UnaryOp) else operator.lt

        def test(inside: int, after: int) -> None:
            there = self.assigned(ir.Expr.binop(more, self.read(counter), stop, self.loc))
            self.end(ir.Branch(there, inside, after, self.loc), inside, after)

        def advance() -> None:
            here = self.write(target, self.read(counter))
            self.write(counter, ir.Expr.call(self.function("next_index"), [here, step], (), self.loc))
        self.loop(test, node.body, advance)

    def loop(self, test: Callable[[int, int], None], nodes: Sequence[ast.stmt],
             advance: Callable[[], None] | None = None) -> None:
        """Tested before the first round and at the end of each, which is the form that LLVM's passes want."""
        inside, again, after = self.label(), self.label(), self.label()
        loc = self.loc
        test(inside, after)
        self.begin(inside)
        self.loops.append((again, after))
        self.open.append(set())
        if advance is not None:
            advance()
        self.statements(nodes)
        self.open.pop()
        self.loops.pop()
        self.jump(again)
        self.begin(again)
        if self.block is not None:
            self.loc = loc
            test(inside, after)
        self.begin(after)

    # --- expressions ---

    def value(self, node: ast.expr) -> ir.Var:
        """The variable that an expression is, or that holds it."""
        found = self.expression(node)
        return found if isinstance(found, ir.Var) else self.assigned(found)

    def expression(self, node: ast.expr) -> Any:
        """What can be assigned to a variable."""
        return self.visit("expression", node)

    def branch(self, test: ast.expr, then: int, otherwise: int) -> None:
        """The end of a block."""
        if isinstance(test, ast.Compare) and len(test.ops) > 1:
            test = pairwise(test)
        if isinstance(test, ast.BoolOp):
            for node in test.values[:-1]:
                following = self.label()
                self.branch(node, *((following, otherwise) if isinstance(test.op, ast.And) else (then, following)))
                self.begin(following)
            self.branch(test.values[-1], then, otherwise)
        elif isinstance(test, ast.UnaryOp) and isinstance(test.op, ast.Not):
            self.branch(test.operand, otherwise, then)
        else:
            self.end(ir.Branch(self.value(test), then, otherwise, self.loc), then, otherwise)

    def expression_Constant(self, node: ast.Constant) -> ir.Const:
        return ir.Const(node.value, self.loc, use_literal_type=False)

    def expression_Name(self, node: ast.Name) -> ir.Var:
        """A variable, even if it is written further below; or a function of the language."""
        known = node.id not in self.variables and (node.id in self.names or hasattr(builtins, node.id))
        return self.function(node.id) if known else self.read(node.id)

    def function(self, name: str) -> ir.Var:
        """The variable that holds a function, from the start."""
        found = self.functions.get(name)
        if found is None:
            self.names.setdefault(name, getattr(builtins, name, None))
            found = self.functions[name] = ir.Var(None, f"${name}", self.loc)
        return found

    def expression_BinOp(self, node: ast.BinOp) -> Any:
        function = BINARY[type(node.op)]
        left, right = self.expression(node.left), self.expression(node.right)
        if isinstance(left, ir.Const) and isinstance(right, ir.Const):
            return ir.Const(function(left.value, right.value), self.loc, use_literal_type=False)
        left, right = (v if isinstance(v, ir.Var) else self.assigned(v) for v in (left, right))
        return ir.Expr.binop(function, left, right, self.loc)

    def expression_UnaryOp(self, node: ast.UnaryOp) -> Any:
        function, operand = UNARY[type(node.op)], self.expression(node.operand)
        if isinstance(operand, ir.Const):
            return ir.Const(function(operand.value), self.loc, use_literal_type=False)
        return ir.Expr.unary(function, operand if isinstance(operand, ir.Var) else self.assigned(operand), self.loc)

    def expression_Compare(self, node: ast.Compare) -> Any:
        if len(node.ops) > 1:
            return self.expression(pairwise(node))
        left, right = self.value(node.left), self.value(node.comparators[0])
        return ir.Expr.binop(COMPARISON[type(node.ops[0])], left, right, self.loc)

    def expression_BoolOp(self, node: ast.BoolOp) -> ir.Var:
        result, after = self.temporary(), self.label()
        for operand in node.values[:-1]:
            found, following = self.value(operand), self.label()
            self.write(result, found)
            then, otherwise = (following, after) if isinstance(node.op, ast.And) else (after, following)
            self.end(ir.Branch(found, then, otherwise, self.loc), then, otherwise)
            self.begin(following)
        self.write(result, self.expression(node.values[-1]))
        self.jump(after)
        self.begin(after)
        return self.read(result)

    def expression_IfExp(self, node: ast.IfExp) -> ir.Var:
        result, then, otherwise, after = self.temporary(), self.label(), self.label(), self.label()
        self.branch(node.test, then, otherwise)
        for label, chosen in ((then, node.body), (otherwise, node.orelse)):
            self.begin(label)
            self.open.append(set())
            self.write(result, self.expression(chosen))
            self.open.pop()
            self.jump(after)
        self.begin(after)
        return self.read(result)

    def expression_Subscript(self, node: ast.Subscript) -> ir.Expr:
        return ir.Expr.getitem(self.value(node.value), self.value(node.slice), self.loc)

    def expression_Call(self, node: ast.Call) -> ir.Expr:
        function = self.value(node.func)
        return ir.Expr.call(function, [self.value(a) for a in node.args], (), self.loc)


def pairwise(node: ast.Compare) -> ast.BoolOp:
    """a < b < c as a < b and b < c."""
    operands = [node.left, *node.comparators]
    return ast.BoolOp(ast.And(), [ast.Compare(a, [op], [b]) for a, op, b in zip(operands, node.ops, operands[1:])])
