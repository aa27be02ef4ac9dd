"""The members that KMS's requests share, with the service model's own bounds (API version 2014-11-01).

A test compares this table with botocore's copy of the model.
"""

from cloister.kms.requests.shapes import Blob, Boolean, Integer, List, String, StringMap, Structure

KEY_ID = String(1, 2048)
ALIAS_NAME = String(1, 256, pattern="^[a-zA-Z0-9:/_-]+$")
POLICY = String(1, 131072, pattern="[\\u0009\\u000A\\u000D\\u0020-\\u00FF]+")
POLICY_NAME = String(1, 128, pattern="[\\w]+")
DESCRIPTION = String(0, 8192)
CUSTOM_KEY_STORE_ID = String(1, 64)
XKS_KEY_ID = String(1, 128, pattern="^[a-zA-Z0-9-_.]+$")
GRANT_TOKENS = List(String(1, 8192), 0, 10)
PLAINTEXT = Blob(1, 4096)
CIPHERTEXT = Blob(1, 6144)
NUMBER_OF_BYTES = Integer(1, 1024)
LIMIT = Integer(1, 1000)
MARKER = String(1, 1024, pattern="[\\u0020-\\u00FF]*")
PENDING_WINDOW = Integer(1, 365)
ENCRYPTION_CONTEXT = StringMap()
BOOLEAN = Boolean()
TAGS = List(
    Structure({"TagKey": String(1, 128), "TagValue": String(0, 256)}, required=("TagKey", "TagValue"))
)
RESOURCE_OWNERS = List(String(values=("SELF", "OTHER_ACCOUNTS_VIA_RAM")), 1, 2)
DRY_RUN_MODIFIERS = List(String(values=("IGNORE_CIPHERTEXT",)))
RECIPIENT = Structure(
    {
        "KeyEncryptionAlgorithm": String(values=("RSAES_OAEP_SHA_256",)),
        "AttestationDocument": Blob(1, 262144),
    }
)

DATA_KEY_SPEC = String(values=("AES_256", "AES_128"))
ENCRYPTION_ALGORITHM = String(
    values=("SYMMETRIC_DEFAULT", "RSAES_OAEP_SHA_1", "RSAES_OAEP_SHA_256", "SM2PKE")
)
MESSAGE_TYPE = String(values=("RAW", "DIGEST", "EXTERNAL_MU"))
SIGNING_ALGORITHM = String(
    values=(
        "RSASSA_PSS_SHA_256", "RSASSA_PSS_SHA_384", "RSASSA_PSS_SHA_512",
        "RSASSA_PKCS1_V1_5_SHA_256", "RSASSA_PKCS1_V1_5_SHA_384", "RSASSA_PKCS1_V1_5_SHA_512",
        "ECDSA_SHA_256", "ECDSA_SHA_384", "ECDSA_SHA_512", "SM2DSA", "ML_DSA_SHAKE_256",
        "ED25519_SHA_512", "ED25519_PH_SHA_512",
    )
)  # fmt: skip
KEY_USAGE = String(
    values=(
        "SIGN_VERIFY",
        "ENCRYPT_DECRYPT",
        "GENERATE_VERIFY_MAC",
        "KEY_AGREEMENT",
        "ENCAPSULATE_DECAPSULATE",
    )
)
ORIGIN = String(values=("AWS_KMS", "EXTERNAL", "AWS_CLOUDHSM", "EXTERNAL_KEY_STORE"))
CUSTOMER_MASTER_KEY_SPEC = String(
    values=(
        "RSA_2048", "RSA_3072", "RSA_4096", "ECC_NIST_P256", "ECC_NIST_P384", "ECC_NIST_P521",
        "ECC_SECG_P256K1", "SYMMETRIC_DEFAULT", "HMAC_224", "HMAC_256", "HMAC_384", "HMAC_512", "SM2",
    )
)  # fmt: skip
KEY_SPEC = String(
    values=(
        *CUSTOMER_MASTER_KEY_SPEC.values,
        "ML_DSA_44", "ML_DSA_65", "ML_DSA_87", "ECC_NIST_EDWARDS25519",
        "ML_KEM_512", "ML_KEM_768", "ML_KEM_1024",
    )
)  # fmt: skip
