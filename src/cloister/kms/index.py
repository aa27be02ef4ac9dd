"""Every operation this service has, by its name in the API, and what its request may hold."""

from botocore.loaders import Loader

from cloister.aws import ServiceModel, Structure
from cloister.kms.operation import Operation
from cloister.kms.operations import (
    create_alias,
    create_key,
    decrypt,
    describe_key,
    disable_key,
    enable_key,
    encrypt,
    generate_data_key,
    generate_random,
    get_key_policy,
    get_public_key,
    list_aliases,
    list_keys,
    put_key_policy,
    schedule_key_deletion,
    sign,
    verify,
)

OPERATIONS: dict[str, Operation] = {
    module.OPERATION.name: module.OPERATION
    for module in (
        create_alias,
        create_key,
        decrypt,
        describe_key,
        disable_key,
        enable_key,
        encrypt,
        generate_data_key,
        generate_random,
        get_key_policy,
        get_public_key,
        list_aliases,
        list_keys,
        put_key_policy,
        schedule_key_deletion,
        sign,
        verify,
    )
}

_MODEL = ServiceModel(Loader().load_service_model("kms", "service-2", "2014-11-01"))
REQUESTS: dict[str, Structure] = {name: _MODEL.request(name) for name in OPERATIONS}
"""The request of each operation."""
