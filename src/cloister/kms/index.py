"""Every operation this service has, by its name in the API."""

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
