#!/usr/bin/env bash
# Checks a signed enclave image without any of Cloister's code: openssl for all cryptography, gzip for the
# checksum, od, dd, basenc and awk for the bytes. Prints PCR0 and PCR8, or one sentence and exits 1.
set -euo pipefail
export LC_ALL=C
file=$1
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT

refuse() { echo "$1" >&2; exit 1; }
bytes() { dd if="$file" iflag=skip_bytes,count_bytes bs=1M skip="$1" count="$2" status=none; }
number() { echo $((16#$(bytes "$1" "$2" | od -An -v -tx1 | tr -d ' \n'))); }
binary() { tr -d '\n' | basenc --base16 --decode; }
extend() { { head -c 48 /dev/zero; openssl dgst -sha384 -binary; } | openssl dgst -sha384 -r | cut -d' ' -f1; }
# CBOR of exactly the shapes that a signature has, to lines of hexadecimal.
cbor() {
  od -An -v -tu1 -w1 | awk -v shape="$1" '
    { b[NR] = $1 + 0 }
    function head(major,  x, n, value) {
      x = b[++p]
      if (int(x / 32) != major) { print "the CBOR is not a " shape > "/dev/stderr"; failed = 1; exit 1 }
      x %= 32
      if (x < 24) return x
      for (n = x == 24 ? 1 : x == 25 ? 2 : 4; n > 0; n--) value = value * 256 + b[++p]
      return value
    }
    function octets(major,  n, out) { for (n = head(major); n > 0; n--) out = out sprintf("%02X", b[++p]); return out }
    function array(  n, out) { for (n = head(4); n > 0; n--) out = out sprintf("%02X", head(0)); return out }
    END {
      if (shape == "section") { head(4); head(5); print octets(3); print array(); print octets(3); print array() }
      if (shape == "envelope") { head(4); print octets(2); head(5); print octets(2); print octets(2) }
      if (shape == "register") { head(5); print octets(3); print head(0); print octets(3); print array() }
      if (!failed && p != NR) { print "bytes follow the " shape > "/dev/stderr"; exit 1 }
    }'
}
hex() { printf '%s' "$1" | od -An -v -tx1 | tr -d ' \n' | tr a-f A-F; }

# The sections, one after the other, each where the header's tables have it.
size=$(stat -L -c %s "$file")
count=$(number 26 2)
offset=548 index=0 signature=
: > "$work/measured"
while ((offset < size)); do
  kind=$(number "$offset" 2) length=$(number $((offset + 4)) 8)
  [ "$(number $((28 + 8 * index)) 8)" = "$offset" ] || refuse "section $index is not where the header says"
  [ "$(number $((284 + 8 * index)) 8)" = "$length" ] || refuse "section $index is not as long as the header says"
  case $kind in
    1 | 2 | 3) bytes $((offset + 12)) "$length" >> "$work/measured" ;;
    4) bytes $((offset + 12)) "$length" > "$work/section"; signature=1 ;;
  esac
  offset=$((offset + 12 + length)) index=$((index + 1))
done
[ "$offset" = "$size" ] && [ "$index" = "$count" ] || refuse "the file does not end with its last section"
[ -n "$signature" ] || refuse "there is no signature"
crc=$({ bytes 0 544; bytes 548 $((size - 548)); } | gzip -1 -n | tail -c 8 | od -An -v -tu4 --endian=little -N4)
[ "$((crc))" = "$(number 544 4)" ] || refuse "the checksum is wrong"

# The section, the COSE_Sign1 in it, and the register that this signs.
cbor section < "$work/section" > "$work/parts"
{ read -r name1; read -r certificate; read -r name2; read -r cose; } < "$work/parts"
[ "$name1 $name2" = "$(hex signing_certificate) $(hex signature)" ] || refuse "the section has other keys"
printf %s "$certificate" | binary > "$work/certificate.pem"
printf %s "$cose" | binary | cbor envelope > "$work/envelope"
{ read -r protected; read -r payload; read -r raw; } < "$work/envelope"
printf %s "$payload" | binary | cbor register > "$work/register"
{ read -r name1; read -r register; read -r name2; read -r value; } < "$work/register"
[ "$name1 $register $name2" = "$(hex register_index) 0 $(hex register_value)" ] || refuse "not PCR0 is signed"
pcr0=$(extend < "$work/measured")
[ "$(tr a-f A-F <<< "$pcr0")" = "$value" ] || refuse "another image's PCR0 is signed"

# The signature: r and s, over the COSE Sig_structure.
case $protected in
  A10126) digest=sha256 ;;
  A1013822) digest=sha384 ;;
  A1013823) digest=sha512 ;;
  *) refuse "the algorithm is none of ES256, ES384, ES512" ;;
esac
half=$((${#raw} / 2))
printf 'asn1=SEQUENCE:rs\n[rs]\nr=INTEGER:0x%s\ns=INTEGER:0x%s\n' "${raw:0:half}" "${raw:half}" > "$work/rs"
openssl asn1parse -genconf "$work/rs" -noout -out "$work/signature.der"
printf '846A%s%02X%s4058%02X%s' "$(hex Signature1)" $((0x40 + ${#protected} / 2)) "$protected" \
  $((${#payload} / 2)) "$payload" | binary > "$work/signed"
openssl x509 -in "$work/certificate.pem" -pubkey -noout > "$work/public.pem"
openssl dgst "-$digest" -verify "$work/public.pem" -signature "$work/signature.der" "$work/signed" > /dev/null \
  || refuse "the signature does not verify"
echo "PCR0 $pcr0"
echo "PCR8 $(openssl x509 -in "$work/certificate.pem" -outform DER | extend)"
