"""`torch.special`: functions of the namespace under their special names."""
from jtorch.ops import FUNCTIONS as _FUNCTIONS

_NAMES = {
    "expit": "sigmoid", "gammaln": "lgamma", "psi": "digamma", "digamma": "digamma", "erf": "erf", "erfc": "erfc",
    "erfinv": "erfinv", "exp2": "exp2", "expm1": "expm1", "log1p": "log1p", "logit": "logit", "logsumexp": "logsumexp",
    "log_softmax": "log_softmax", "softmax": "softmax", "round": "round", "sinc": "sinc", "xlogy": "xlogy", "i0": "i0",
    "entr": "special_entr", "ndtr": "special_ndtr", "log_ndtr": "special_log_ndtr", "xlog1py": "special_xlog1py",
    "polygamma": "polygamma", "gammainc": "igamma", "gammaincc": "igammac", "multigammaln": "mvlgamma",
}

globals().update({_name: _FUNCTIONS[_own] for _name, _own in _NAMES.items() if _own in _FUNCTIONS})
