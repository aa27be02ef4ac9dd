// Command nitrite asks github.com/hf/nitrite, which takes a pool of roots and a time.
package main

import (
	"github.com/hf/nitrite"

	"peers/verdict"
)

func main() {
	question := verdict.Read()
	_, err := nitrite.Verify(question.Document, nitrite.VerifyOptions{
		Roots:       question.Pool(),
		CurrentTime: question.Time,
	})
	verdict.Write(err)
}
