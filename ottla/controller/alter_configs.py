"""The decision on changes of configs, whole (AlterConfigs) or key by key (IncrementalAlterConfigs)."""

from collections import Counter
from collections.abc import Mapping, Sequence

from ottla.controller.decision import Decision, refuse_duplicates
from ottla.controller.effective import EffectiveConfigs
from ottla.controller.election import settle_all
from ottla.controller.image import ALL_BROKERS, NO_LEADER, MetadataImage, ResourceType
from ottla.controller.replay import ImageBuilder
from ottla.controller.requests import AlterResource, ConfigChange, ConfigOperation
from ottla.controller.topic_names import why_invalid
from ottla.controller.topic_rules import RULE_CONFIGS, TopicRules
from ottla.core.broker_configs import BROKER_CONFIGS
from ottla.core.config_fields import ConfigFields, ConfigType, UpdateMode
from ottla.core.error_codes import ErrorCode
from ottla.core.errors import ApiError, ConfigError
from ottla.core.mirror_topics import MIRROR_PREFIX, why_no_step
from ottla.core.topic_configs import TOPIC_CONFIGS, check_together
from ottla.v1 import metadata_pb2 as pb


def alter_configs(
    image: MetadataImage, defaults: EffectiveConfigs, resources: Sequence[AlterResource]
) -> Decision[list[ApiError | None]]:
    """Each resource is changed as a whole or not at all; one that stands twice in the request is not changed."""
    counts = Counter((resource.type, resource.name) for resource in resources)
    decision: Decision[list[ApiError | None]] = Decision([])
    for resource in resources:
        try:
            refuse_duplicates(counts[resource.type, resource.name], "resource")
            decision.records += _alter(image, defaults, resource)
        except ApiError as error:
            decision.result.append(error)
        else:
            decision.result.append(None)
    if any(record.config.name in RULE_CONFIGS for record in decision.records):
        decision.records += _resettled(image, defaults, decision.records)
    return decision


def _resettled(
    image: MetadataImage, defaults: EffectiveConfigs, records: Sequence[pb.MetadataRecord]
) -> list[pb.MetadataRecord]:
    """What the new configs mean for partitions that have no leader, or eligible replicas out of sync (KIP-966).

    In the same batch: with a lower `min.insync.replicas` records are committed at once that those do not have. And
    where unclean elections are allowed from now on, they take place.
    """
    after, _ = ImageBuilder(image).replay(records).build(image.offset, image.epoch)
    rules = TopicRules(after, defaults.on(after))
    changes = settle_all(after, rules, after.active_brokers, lambda one: one.leader == NO_LEADER or bool(one.elr))
    return changes.records()


def _alter(image: MetadataImage, defaults: EffectiveConfigs, resource: AlterResource) -> list[pb.MetadataRecord]:
    fields = _fields(image, resource)
    if twice := [name for name, count in Counter(c.name for c in resource.changes).items() if count > 1]:
        raise ApiError(ErrorCode.INVALID_REQUEST, f"The config {twice[0]} stands more than once for one resource.")
    before = image.configs(resource.type, resource.name)
    # Who replaces all configs of a topic knows nothing of mirrors, and does not mean to make it writable.
    kept = {name: value for name, value in before.items() if name.startswith(MIRROR_PREFIX)}
    after = kept if resource.replace_all else dict(before)
    try:
        for change in resource.changes:
            _apply(fields, defaults, resource, after, change)
        if resource.type is ResourceType.TOPIC:
            check_together({**defaults.topic_defaults(), **after})
    except ConfigError as error:
        raise ApiError(ErrorCode.INVALID_CONFIG, str(error)) from error
    if resource.type is ResourceType.TOPIC and (reason := why_no_step(before, after)):
        raise ApiError(ErrorCode.POLICY_VIOLATION, f"{resource.name}: {reason}")
    return _difference(resource, before, after)


def _fields(image: MetadataImage, resource: AlterResource) -> ConfigFields:
    match resource.type:
        case ResourceType.TOPIC:
            if reason := why_invalid(resource.name):
                raise ApiError(ErrorCode.INVALID_TOPIC_EXCEPTION, reason)
            if resource.name not in image.topics:
                raise ApiError(ErrorCode.UNKNOWN_TOPIC_OR_PARTITION, f"The topic '{resource.name}' does not exist.")
            return TOPIC_CONFIGS
        case ResourceType.BROKER:
            known = {ALL_BROKERS, *map(str, image.brokers)}
            if resource.name not in known:
                raise ApiError(
                    ErrorCode.INVALID_REQUEST, f"No broker {resource.name!r}: name a registered broker's id, or none."
                )
            return BROKER_CONFIGS
        case _:
            raise ApiError(ErrorCode.INVALID_REQUEST, f"Configs of {resource.type.name} resources cannot be altered.")


def _apply(
    fields: ConfigFields,
    defaults: EffectiveConfigs,
    resource: AlterResource,
    configs: dict[str, str],
    change: ConfigChange,
) -> None:
    """Make one change to `configs`. Raises ConfigError, or ApiError(INVALID_REQUEST)."""
    if not change.name:
        raise ApiError(ErrorCode.INVALID_REQUEST, "A config must have a name.")
    field = fields.required(change.name)
    if resource.type is ResourceType.BROKER and field.update_mode is UpdateMode.READ_ONLY:
        raise ApiError(
            ErrorCode.INVALID_REQUEST,
            f"{field.name} cannot be changed while the broker runs: set it in the node's configuration and restart.",
        )
    if change.operation is ConfigOperation.DELETE:
        configs.pop(field.name, None)
        return
    if change.value is None:
        raise ApiError(ErrorCode.INVALID_REQUEST, f"{field.name}: a value is needed to {change.operation.name} it.")
    if change.operation is ConfigOperation.SET:
        value = change.value.strip()
    else:
        if field.type is not ConfigType.LIST:
            raise ConfigError(f"Cannot {change.operation.name} {field.name}: it is not a list.")
        current = configs.get(field.name)
        if current is None:
            current = _inherited(defaults, resource, field.name)
        value = _edit_list(current, change.operation, change.value)
    field.parse(value)
    configs[field.name] = value


def _inherited(defaults: EffectiveConfigs, resource: AlterResource, name: str) -> str:
    candidates = (
        defaults.topic_candidates(resource.name, name)
        if resource.type is ResourceType.TOPIC
        else defaults.broker_candidates(name)
    )
    return candidates[0].value or ""


def _edit_list(current: str, operation: ConfigOperation, value: str) -> str:
    items = [item.strip() for item in current.split(",") if item.strip()]
    named = [item.strip() for item in value.split(",") if item.strip()]
    if operation is ConfigOperation.APPEND:
        items += [item for item in named if item not in items]
    else:
        items = [item for item in items if item not in named]
    return ",".join(items)


def _difference(
    resource: AlterResource, before: Mapping[str, str], after: Mapping[str, str]
) -> list[pb.MetadataRecord]:
    def record(name: str, value: str | None) -> pb.MetadataRecord:
        return pb.MetadataRecord(
            config=pb.ConfigRecord(resource_type=resource.type, resource_name=resource.name, name=name, value=value)
        )

    removed = [record(name, None) for name in before if name not in after]
    return removed + [record(name, value) for name, value in after.items() if before.get(name) != value]
