"""Kernels for the runtime's tests, written in LLVM IR so that they need neither Numba nor the code generator."""

import functools

import llvmlite.binding as llvm

SOURCE = """
; y[i] = x[i] * scale + worker-independent offset; args: x, y (double*), scale (double), offset (int)
define void @axpb(ptr %args, i64 %begin, i64 %end, i64 %worker) {
entry:
  %px = load ptr, ptr %args
  %a1 = getelementptr i64, ptr %args, i64 1
  %py = load ptr, ptr %a1
  %a2 = getelementptr i64, ptr %args, i64 2
  %scale = load double, ptr %a2
  %a3 = getelementptr i64, ptr %args, i64 3
  %offset = load i64, ptr %a3
  %b = sitofp i64 %offset to double
  br label %head
head:
  %i = phi i64 [ %begin, %entry ], [ %next, %body ]
  %more = icmp slt i64 %i, %end
  br i1 %more, label %body, label %exit
body:
  %pi = getelementptr double, ptr %px, i64 %i
  %v = load double, ptr %pi
  %s = fmul double %v, %scale
  %r = fadd double %s, %b
  %qi = getelementptr double, ptr %py, i64 %i
  store double %r, ptr %qi
  %next = add i64 %i, 1
  br label %head
exit:
  ret void
}

; out[i] += 1 and owner[i] = worker, after args[2] rounds of idling on item i when i < args[3]
define void @visit(ptr %args, i64 %begin, i64 %end, i64 %worker) {
entry:
  %out = load ptr, ptr %args
  %a1 = getelementptr i64, ptr %args, i64 1
  %owner = load ptr, ptr %a1
  %a2 = getelementptr i64, ptr %args, i64 2
  %rounds = load i64, ptr %a2
  %a3 = getelementptr i64, ptr %args, i64 3
  %slow = load i64, ptr %a3
  br label %head
head:
  %i = phi i64 [ %begin, %entry ], [ %next, %body ]
  %more = icmp slt i64 %i, %end
  br i1 %more, label %item, label %exit
item:
  %isslow = icmp slt i64 %i, %slow
  %left = select i1 %isslow, i64 %rounds, i64 0
  br label %idle
idle:
  %k = phi i64 [ %left, %item ], [ %k1, %idling ]
  %again = icmp sgt i64 %k, 0
  br i1 %again, label %idling, label %body
idling:
  %junk = load volatile i64, ptr %args
  %k1 = sub i64 %k, 1
  br label %idle
body:
  %pi = getelementptr i64, ptr %out, i64 %i
  %old = atomicrmw add ptr %pi, i64 1 monotonic
  %qi = getelementptr i64, ptr %owner, i64 %i
  store i64 %worker, ptr %qi
  %next = add i64 %i, 1
  br label %head
exit:
  ret void
}

; args[0][0] = args[1]
define void @fail(ptr %args, i64 %begin, i64 %end, i64 %worker) {
  %error = load ptr, ptr %args
  %a1 = getelementptr i64, ptr %args, i64 1
  %code = load i64, ptr %a1
  store i64 %code, ptr %error
  ret void
}

define void @nothing(ptr %args, i64 %begin, i64 %end, i64 %worker) {
  ret void
}
"""


@functools.cache
def addresses():
    """Kernel name -> address."""
    llvm.initialize_native_target()
    llvm.initialize_native_asmprinter()
    module = llvm.parse_assembly(SOURCE)
    machine = llvm.Target.from_default_triple().create_target_machine(opt=2, jit=True)
    engine = llvm.create_mcjit_compiler(module, machine)
    engine.finalize_object()
    names = ("axpb", "visit", "fail", "nothing")
    return {"engine": engine, **{name: engine.get_function_address(name) for name in names}}
