// Package verdict is what the programs here have in common: the question they read and the answer they write.
//
//	program ROOTS.pem TIME < DOCUMENT
//
// TIME is RFC 3339. The answer is one line of JSON, {"accepted": true} or {"accepted": false, "reason": "..."}.
// A program that ends without one has crashed.
package verdict

import (
	"crypto/x509"
	"encoding/json"
	"encoding/pem"
	"fmt"
	"io"
	"os"
	"time"
)

const largest = 1 << 20 // bytes of a document; each verifier has its own smaller bound, or none

// Question is a document, the roots to trust and the time to judge at.
type Question struct {
	Document []byte
	Roots    []*x509.Certificate
	Time     time.Time
}

// Read takes the question from the command line and standard input.
func Read() Question {
	if len(os.Args) != 3 {
		fail(fmt.Errorf("usage: %s ROOTS.pem TIME < DOCUMENT", os.Args[0]))
	}
	at, err := time.Parse(time.RFC3339Nano, os.Args[2])
	check(err)
	bundle, err := os.ReadFile(os.Args[1])
	check(err)
	document, err := io.ReadAll(io.LimitReader(os.Stdin, largest))
	check(err)
	question := Question{Document: document, Time: at}
	for block, rest := pem.Decode(bundle); block != nil; block, rest = pem.Decode(rest) {
		root, err := x509.ParseCertificate(block.Bytes)
		check(err)
		question.Roots = append(question.Roots, root)
	}
	return question
}

// Pool returns the roots as the pool that crypto/x509 takes.
func (question Question) Pool() *x509.CertPool {
	pool := x509.NewCertPool()
	for _, root := range question.Roots {
		pool.AddCert(root)
	}
	return pool
}

// Write answers on standard output.
func Write(refusal error) {
	answer := struct {
		Accepted bool   `json:"accepted"`
		Reason   string `json:"reason,omitempty"`
	}{Accepted: refusal == nil}
	if refusal != nil {
		answer.Reason = refusal.Error()
	}
	line, err := json.Marshal(answer)
	check(err)
	// opened again, because a program built with the faketime tag frames what it writes to descriptor 1
	output, err := os.OpenFile("/proc/self/fd/1", os.O_WRONLY|os.O_APPEND, 0)
	check(err)
	_, err = output.Write(append(line, '\n'))
	check(err)
	check(output.Close())
}

func check(err error) {
	if err != nil {
		fail(err)
	}
}

func fail(err error) {
	fmt.Fprintln(os.Stderr, err)
	os.Exit(2)
}
