"""Short-time Fourier transforms: the spectra of windows that move over a signal."""
from __future__ import annotations

from jtorch._tensor import Tensor
from jtorch.ops import fourier
from jtorch.ops.attach import FUNCTIONS, expose
from jtorch.ops.padding import pad


def _window(name: str, window: Tensor | None, n_fft: int, hop: int | None, win_length: int | None, like: Tensor
            ) -> tuple[Tensor, int, int]:
    """(window with zeros around it up to n_fft, hop, window length)"""
    hop = n_fft // 4 if hop is None else hop
    length = n_fft if win_length is None else win_length
    if hop <= 0:
        raise RuntimeError(f"{name}: expected hop_length > 0, but got hop_length={hop}")
    if not 0 < length <= n_fft:
        raise RuntimeError(f"{name}: expected 0 < win_length <= n_fft, but got win_length={length}")
    if window is None:
        window = FUNCTIONS["ones"](length, dtype=like.real.dtype if like.dtype.is_complex else like.dtype)
    elif tuple(window.shape) != (length,):
        raise RuntimeError(f"{name}: expected a 1D window tensor of size equal to win_length={length}, but got window "
                           f"with size {list(window.shape)}")
    left = (n_fft - length) // 2
    return pad(window, (left, n_fft - length - left)), hop, length


@expose("stft")
def stft(input: Tensor, n_fft: int, hop_length: int | None = None, win_length: int | None = None,
         window: Tensor | None = None, center: bool = True, pad_mode: str = "reflect", normalized: bool = False,
         onesided: bool | None = None, return_complex: bool | None = None, align_to_window: bool | None = None
         ) -> Tensor:
    """The spectra of windows that start `hop_length` apart: (B?, L) -> (B?, frequencies, windows), complex; a pair of
    real numbers in a last dimension without `return_complex`. RuntimeError where an argument does not fit."""
    if not (input.dtype.is_floating_point or input.dtype.is_complex):
        raise RuntimeError(f"stft: expected a tensor of floating point or complex values, but got {input.dtype}")
    if input.ndim not in (1, 2):
        raise RuntimeError(f"stft: expected a 1D or 2D tensor, but got {input.ndim}D")
    if center and align_to_window is not None:
        raise RuntimeError("stft align_to_window should only be set when center = false")
    complex_ = input.dtype.is_complex or (window is not None and window.dtype.is_complex)
    if return_complex is None:
        if not complex_:
            raise RuntimeError("stft requires the return_complex parameter be given for real inputs, and will further "
                               "require that return_complex=True in a future PyTorch release.")
        return_complex = True
    onesided = not complex_ if onesided is None else onesided
    if onesided and complex_:
        raise RuntimeError("Cannot have onesided output if window or input is complex")
    x = input if input.ndim == 2 else input[None]
    if center:
        x = pad(x[None], (n_fft // 2, n_fft // 2), pad_mode)[0]
    if not 0 < n_fft <= x.shape[-1]:
        raise RuntimeError(f"stft: expected 0 < n_fft <= {x.shape[-1]}, but got n_fft={n_fft}")
    shape, hop, length = _window("stft", window, n_fft, hop_length, win_length, input)
    if align_to_window:
        left = (n_fft - length) // 2
        x = pad(x, (left, n_fft - length - left))
    frames = x.unfold(-1, n_fft, hop) * shape
    transform = fourier.rfft if onesided else fourier.fft
    spectra = transform(frames, norm="ortho" if normalized else None).transpose(1, 2)
    spectra = spectra if input.ndim == 2 else spectra[0]
    return spectra if return_complex else FUNCTIONS["view_as_real"](spectra)


@expose("istft")
def istft(input: Tensor, n_fft: int, hop_length: int | None = None, win_length: int | None = None,
          window: Tensor | None = None, center: bool = True, normalized: bool = False, onesided: bool | None = None,
          length: int | None = None, return_complex: bool = False) -> Tensor:
    """The signal whose `stft` is nearest to `input` in the least squares sense: (B?, frequencies, windows) -> (B?, L).

    D. Griffin, J. Lim, "Signal estimation from modified short-time Fourier transform", 1984. RuntimeError where an
    argument does not fit, or no window covers some part of the signal.
    """
    if not input.dtype.is_complex:
        raise RuntimeError("istft requires a complex-valued input tensor matching the output from stft with "
                           "return_complex=True.")
    if not input.numel():
        raise RuntimeError("istft: input tensor cannot be empty.")
    if input.ndim not in (2, 3):
        raise RuntimeError(f"istft: expected a tensor with 2 or 3 dimensions, but got {input.ndim}")
    bins = input.shape[-2]
    onesided = n_fft != bins if onesided is None else onesided
    if bins != (n_fft // 2 + 1 if onesided else n_fft):
        raise RuntimeError("istft: expected the frequency dimension (3rd to the last) of the input tensor to match "
                           f"n_fft{' / 2 + 1' if onesided else ''} when onesided={onesided}, but got {bins}")
    if return_complex and onesided:
        raise RuntimeError("Cannot have onesided output if window or input is complex")
    if not return_complex and window is not None and window.dtype.is_complex:
        raise RuntimeError("Complex windows are incompatible with return_complex=False")
    shape, hop, covered = _window("istft", window, n_fft, hop_length, win_length, input)
    if hop > covered:
        raise RuntimeError("istft: expected 0 < hop_length <= win_length")
    spectra = (input if input.ndim == 3 else input[None]).transpose(1, 2)
    norm = "ortho" if normalized else None
    frames = (fourier.ifft(spectra, norm=norm) if return_complex else
              fourier.irfft(spectra if onesided else spectra[..., :n_fft // 2 + 1], n_fft, norm=norm))
    count = spectra.shape[1]
    whole = n_fft + hop * (count - 1)
    signal = _overlapped(frames * shape, hop, whole)
    weight = _overlapped((shape * shape).expand(1, count, n_fft), hop, whole)
    start = n_fft // 2 if center else 0
    stop = start + length if length is not None else whole - (n_fft // 2 if center else 0)
    signal, weight = signal[:, start:stop], weight[:, start:stop]
    if bool((weight.abs() < 1e-11).any()):
        raise RuntimeError("istft: window overlap add min: 1: no window covers some part of the signal")
    signal = signal / weight
    if stop > whole:
        signal = pad(signal, (0, stop - whole))
    return signal if input.ndim == 3 else signal[0]


def _overlapped(frames: Tensor, hop: int, length: int) -> Tensor:
    """(B, windows, n) -> (B, length): the sum of windows that start `hop` apart."""
    batch, count, n = frames.shape
    places = FUNCTIONS["arange"](count)[:, None] * hop + FUNCTIONS["arange"](n)
    return FUNCTIONS["zeros"](batch, length, dtype=frames.dtype).index_add(
        1, places.reshape(-1), frames.reshape(batch, count * n))
