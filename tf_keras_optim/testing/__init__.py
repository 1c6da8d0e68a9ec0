"""The conformance kit: what every optimizer must satisfy, for optimizers of one's own too.

```python
from tf_keras_optim import testing

print(testing.check_optimizer(MyOptimizer, {"learning_rate": 0.05}))
```
"""

from tf_keras_optim.testing.checks import CHECKS
from tf_keras_optim.testing.conformance import check_optimizer
from tf_keras_optim.testing.report import ConformanceError, Report, Result

__all__ = ["CHECKS", "ConformanceError", "Report", "Result", "check_optimizer"]
