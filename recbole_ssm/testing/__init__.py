"""Contract tests for models and backends, also for those outside this package. They need no pytest.

.. code-block:: python

    from recbole_ssm.testing import check_model

    def test_my_model():
        check_model(MyModel, {"hidden_size": 16, "loss_type": "CE"})
"""

from recbole_ssm.testing.backends import check_backend
from recbole_ssm.testing.buffers import unwritten_memory_is_nan
from recbole_ssm.testing.models import check_model

__all__ = ["check_backend", "check_model", "unwritten_memory_is_nan"]
