"""Every option, with its unit, default, bound and source: one module for each topic.

The one rule: a value is checked where it is given, and the error names the option, the value
and the bound. Seconds are floats here; the `*_ns` properties are what the core reads.
"""

from healthlb.config.backoff import Backoff as Backoff
from healthlb.config.bounds import check_callable as check_callable
from healthlb.config.bounds import check_collection as check_collection
from healthlb.config.bounds import check_count as check_count
from healthlb.config.bounds import check_number as check_number
from healthlb.config.bounds import code_name as code_name
from healthlb.config.bounds import parse_duration as parse_duration
from healthlb.config.bounds import to_ns as to_ns
from healthlb.config.channel import DEFAULT_SERVICE as DEFAULT_SERVICE
from healthlb.config.channel import DEFAULTS as DEFAULTS
from healthlb.config.channel import ChannelConfig as ChannelConfig
from healthlb.config.channel import Subset as Subset
from healthlb.config.channel import check_failover as check_failover
from healthlb.config.failover import Failover as Failover
from healthlb.config.failover import Idempotent as Idempotent
from healthlb.config.failover import RetryBudget as RetryBudget
from healthlb.config.failover import RetryThrottle as RetryThrottle
from healthlb.config.health import HealthCheck as HealthCheck
from healthlb.config.health import Heartbeat as Heartbeat
from healthlb.config.metadata import Metadata as Metadata
from healthlb.config.metadata import MetadataSource as MetadataSource
from healthlb.config.metadata import check_metadata as check_metadata
from healthlb.config.metadata import is_metadata as is_metadata
from healthlb.config.outliers import FailurePercentage as FailurePercentage
from healthlb.config.outliers import Outliers as Outliers
from healthlb.config.outliers import SuccessRate as SuccessRate
from healthlb.config.overload import NO_CAPS as NO_CAPS
from healthlb.config.overload import Overload as Overload
from healthlb.config.stability import FlapDamping as FlapDamping
from healthlb.config.stability import SlowStart as SlowStart
