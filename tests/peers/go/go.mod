module peers

go 1.24

require (
	github.com/hf/nitrite v0.0.0-20241225144000-c2d5d3c4f303
	github.com/veracruz-project/go-nitro-enclave-attestation-document v0.0.0-20230315135749-6fc97d770084
)

require (
	github.com/fxamacker/cbor/v2 v2.4.0 // indirect
	github.com/veraison/go-cose v1.0.0-rc.1 // indirect
	github.com/x448/float16 v0.8.4 // indirect
)
