// Command veracruz asks github.com/veracruz-project/go-nitro-enclave-attestation-document.
//
// It takes one root and no time: it judges by the clock. So this program is built with Go's own faketime tag,
// whose clock starts on 10 November 2009 and leaps over every sleep: it sleeps until the time to judge at.
package main

import (
	"errors"
	"time"

	document "github.com/veracruz-project/go-nitro-enclave-attestation-document"

	"peers/verdict"
)

// What the COSE_Sign1 tag looks like; documents come with or without it, the module wants it.
const tag = 0xd2

func main() {
	question := verdict.Read()
	time.Sleep(time.Until(question.Time))
	untagged := len(question.Document) > 0 && question.Document[0] != tag
	refusal := errors.New("no root was given")
	for _, root := range question.Roots {
		if _, refusal = document.AuthenticateDocument(question.Document, *root, untagged); refusal == nil {
			break
		}
	}
	verdict.Write(refusal)
}
