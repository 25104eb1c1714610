"""Samplers: which rows join the pool next. One file each; see `base` for the contract."""

from typing import TYPE_CHECKING

from diverseevol.public import lazily

if TYPE_CHECKING:
    from diverseevol.samplers.base import Needs as Needs
    from diverseevol.samplers.base import Sampler as Sampler
    from diverseevol.samplers.base import Selection as Selection
    from diverseevol.samplers.facility_location import FacilityLocation as FacilityLocation
    from diverseevol.samplers.features import Features as Features
    from diverseevol.samplers.kcenter import KCenter as KCenter
    from diverseevol.samplers.kmeans import KMeans as KMeans
    from diverseevol.samplers.longest import Longest as Longest
    from diverseevol.samplers.qbc import QueryByCommittee as QueryByCommittee
    from diverseevol.samplers.quota import Quota as Quota
    from diverseevol.samplers.random import Random as Random
    from diverseevol.samplers.stratified import Stratified as Stratified
    from diverseevol.samplers.uncertain_kcenter import UncertainKCenter as UncertainKCenter
    from diverseevol.samplers.uncertainty import Uncertainty as Uncertainty
    from diverseevol.samplers.vendi import Vendi as Vendi

__getattr__, __dir__ = lazily(__name__, __file__)
