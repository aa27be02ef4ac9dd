#!/usr/bin/env bash
# Verify an attestation document with openssl alone: openssl.sh ROOTS.pem TIME < DOCUMENT
#
# The shell takes the document apart (CBOR, RFC 8949; COSE_Sign1, RFC 9052) and openssl(1) judges: the chain at
# TIME (anything date(1) reads), the curve of the leaf's key, and the signature over the Sig_structure.
# Exit code 0 accepts; 1 refuses, with the reason on standard error; 2 is a mistake in calling it.
set -eu -o pipefail
export LC_ALL=C

[ $# = 2 ] || { echo "usage: $0 ROOTS.pem TIME < DOCUMENT" >&2; exit 2; }
roots=$1
seconds=$(date -u -d "$2" +%s) || exit 2
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
refuse() { echo "$*" >&2; exit 1; }

hex=$(head -c 16385 | od -An -v -tx1 | tr -d ' \n')
end=${#hex} at=0 depth=0
[ "$end" -le 32768 ] || refuse "the document is larger than 16384 bytes"

# One CBOR head at $at: sets kind (major type 0 to 7), count (its argument, -1: indefinite) and moves $at.
head_at() {
  [ $((at + 2)) -le "$end" ] || refuse "the document ends too early"
  local first=$((16#${hex:at:2})) size
  kind=$((first >> 5)) count=$((first & 31))
  at=$((at + 2))
  case $count in
    24) size=2 ;; 25) size=4 ;; 26) size=8 ;; 27) size=16 ;;
    31) count=-1; return ;;
    28|29|30) refuse "a CBOR head that RFC 8949 reserves" ;;
    *) return ;;
  esac
  [ $((at + size)) -le "$end" ] || refuse "the document ends too early"
  count=$((16#${hex:at:size}))
  [ $count -ge 0 ] || refuse "a CBOR number above 63 bits"
  at=$((at + size))
}

# A definite string of kind $1: sets value (hex) and moves $at behind it.
string_at() {
  head_at
  [ $kind = "$1" ] && [ $count -ge 0 ] || refuse "CBOR of major type $kind where $1 was expected"
  [ $count -le $(((end - at) / 2)) ] || refuse "the document ends too early"
  value=${hex:at:count * 2}
  at=$((at + count * 2))
}

skip_one() {
  depth=$((depth + 1))
  [ $depth -le 8 ] || refuse "CBOR nested too deeply"
  head_at
  case $kind in
    0|1|7) [ $count -ge 0 ] || refuse "a CBOR break outside a map" ;;
    2|3) [ $count -ge 0 ] && [ $count -le $(((end - at) / 2)) ] || refuse "the document ends too early"
         at=$((at + count * 2)) ;;
    4|5) local left=$count
         [ $left -ge 0 ] || refuse "an indefinite CBOR container"
         [ $left -le "$end" ] || refuse "the document ends too early"
         if [ $kind = 5 ]; then left=$((left * 2)); fi
         while [ $left -gt 0 ]; do skip_one; left=$((left - 1)); done ;;
    6) refuse "a CBOR tag inside the document" ;;
  esac
  depth=$((depth - 1))
}

bytes() { printf '%b' "$(sed 's/../\\x&/g' <<<"$1" | tr -d '\n')"; }
pem() { bytes "$1" | openssl x509 -inform DER 2>/dev/null || refuse "a certificate is not an X.509 certificate"; }

# COSE_Sign1 = [protected, unprotected, payload, signature], tagged 18 or not
if [ "${hex:0:2}" = d2 ]; then at=2; fi
[ "${hex:at:2}" = 84 ] || refuse "the document is not an array of four"
at=$((at + 2))
begin=$at; string_at 2; protected=${hex:begin:at - begin}
[ "$value" = a1013822 ] || refuse "the protected header is not {1: -35}, ES384"
skip_one
begin=$at; string_at 2; body=${hex:begin:at - begin}; body_end=$at; body_at=$((at - count * 2))
string_at 2; signature=$value
[ $at = "$end" ] || refuse "bytes follow the document"
[ ${#signature} = 192 ] || refuse "the signature has $((${#signature} / 2)) bytes, not 96"

# The payload: a map with text keys, of which two values matter here
at=$body_at end=$body_end leaf='' chain=''
head_at
[ $kind = 5 ] || refuse "the payload is not a map"
left=$count
while [ $left -ne 0 ]; do
  if [ $left -lt 0 ] && [ "${hex:at:2}" = ff ]; then at=$((at + 2)); break; fi
  string_at 3
  case $value in
    6365727469666963617465) # certificate
      [ -z "$leaf" ] || refuse "the field 'certificate' comes twice"
      string_at 2; leaf=$value ;;
    636162756e646c65) # cabundle
      [ -z "$chain" ] || refuse "the field 'cabundle' comes twice"
      head_at
      [ $kind = 4 ] && [ $count -ge 1 ] && [ $count -le 16 ] || refuse "cabundle is not an array of certificates"
      for ((more = count; more > 0; more--)); do string_at 2; chain+="$value "; done ;;
    *) skip_one ;;
  esac
  left=$((left - 1))
done
[ $at = "$end" ] || refuse "bytes follow the payload"
[ -n "$leaf" ] && [ -n "$chain" ] || refuse "the payload has no certificate or no cabundle"

# From here on openssl judges
pem "$leaf" > "$work/leaf.pem"
for certificate in $chain; do pem "$certificate"; done > "$work/chain.pem"
openssl verify -CAfile "$roots" -no-CApath -no-CAstore -untrusted "$work/chain.pem" -purpose any \
  -attime "$seconds" "$work/leaf.pem" > "$work/verify" 2>&1 ||
  refuse "chain: $(sed -n 's/^error [0-9]* at [0-9]* depth lookup: *//p' "$work/verify" | head -1)"

openssl x509 -in "$work/leaf.pem" -noout -pubkey > "$work/key.pem"
openssl pkey -pubin -in "$work/key.pem" -noout -text | grep -q '^ASN1 OID: secp384r1$' ||
  refuse "the leaf's key is not on the curve P-384"
printf 'asn1=SEQUENCE:signature\n[signature]\nr=INTEGER:0x%s\ns=INTEGER:0x%s\n' \
  "${signature:0:96}" "${signature:96}" > "$work/signature.conf"
openssl asn1parse -genconf "$work/signature.conf" -noout -out "$work/signature.der" ||
  refuse "the signature is not two numbers"
# Sig_structure = ["Signature1", protected, external_aad = '', payload]
bytes "846a5369676e617475726531${protected}40${body}" > "$work/signed"
openssl dgst -sha384 -verify "$work/key.pem" -signature "$work/signature.der" "$work/signed" > /dev/null 2>&1 ||
  refuse "signature: the leaf's key did not make it"
echo accepted
