// Go's net/http with HTTP/1.1 and HTTP/2: arguments are the URLs of the listeners without and with TLS.
package main

import (
	"bytes"
	"context"
	"crypto/sha256"
	"crypto/tls"
	"crypto/x509"
	"fmt"
	"io"
	"log"
	"net/http"
	"net/http/httptrace"
	"os"
	"strings"
	"time"
)

var large = bytes.Repeat([]byte("0123456789abcdef"), 20<<20/16)

func digest(body []byte) string { return fmt.Sprintf("%x %d", sha256.Sum256(body), len(body)) }

type client struct {
	http.Client
	base string
}

// ask returns the status and the body.
func (c *client) ask(method, path string, body io.Reader, fields ...string) (int, []byte) {
	request, err := http.NewRequest(method, c.base+path, body)
	must(err)
	for i := 0; i < len(fields); i += 2 {
		request.Header.Set(fields[i], fields[i+1])
	}
	answer, err := c.Do(request)
	if err != nil {
		log.Fatalf("%s %s%s: %v", method, c.base, path, err)
	}
	defer answer.Body.Close()
	got, err := io.ReadAll(answer.Body)
	must(err)
	return answer.StatusCode, got
}

func must(err error) {
	if err != nil {
		log.Fatal(err)
	}
}

func same(what, got, wanted string) {
	if got != wanted {
		log.Fatalf("%s: %.80q, wanted %.80q", what, got, wanted)
	}
}

func (c *client) check(version int) {
	made := 0
	trace := &httptrace.ClientTrace{GotConn: func(info httptrace.GotConnInfo) {
		if !info.Reused {
			made++
		}
	}}
	for i := 0; i < 20; i++ {
		request, _ := http.NewRequestWithContext(httptrace.WithClientTrace(context.Background(), trace), "GET", c.base+"/", nil)
		answer, err := c.Do(request)
		must(err)
		body, err := io.ReadAll(answer.Body)
		must(err)
		same("hello", string(body), "hello")
		if answer.ProtoMajor != version {
			log.Fatalf("%s is spoken", answer.Proto)
		}
	}
	if made != 1 {
		log.Fatalf("%d connections were made", made)
	}
	post := func(body io.Reader, fields ...string) string {
		_, got := c.ask("POST", "/digest", body, fields...)
		return string(got)
	}
	same("an upload", post(bytes.NewReader(large)), digest(large))
	same("an upload of unknown length", post(struct{ io.Reader }{bytes.NewReader(large)}), digest(large))
	same("100-continue", post(bytes.NewReader(large), "Expect", "100-continue"), digest(large))
	for _, path := range []string{"bytes", "chunks"} {
		if _, got := c.ask("GET", fmt.Sprintf("/%s/%d", path, len(large)), nil); len(got) != len(large) {
			log.Fatalf("%s: %d bytes", path, len(got))
		}
	}
	if status, _ := c.ask("POST", "/early", bytes.NewReader(large)); status != 413 {
		log.Fatalf("an early answer: %d", status)
	}
	c.breakOff()
}

// breakOff sees whether the instance hears of a request that is broken off.
func (c *client) breakOff() {
	gone := func() string {
		_, got := c.ask("GET", "/gone", nil)
		return string(got)
	}
	before := gone()
	broken, cancel := context.WithCancel(context.Background())
	request, _ := http.NewRequestWithContext(broken, "GET", c.base+"/endless", nil)
	answer, err := c.Do(request)
	must(err)
	_, err = io.ReadFull(answer.Body, make([]byte, 1000))
	must(err)
	cancel()
	answer.Body.Close()
	for deadline := time.Now().Add(20 * time.Second); gone() == before; time.Sleep(50 * time.Millisecond) {
		if time.Now().After(deadline) {
			log.Fatal("the instance did not hear that the request was broken off")
		}
	}
}

func main() {
	pem, err := os.ReadFile(os.Getenv("CA"))
	must(err)
	roots := x509.NewCertPool()
	roots.AppendCertsFromPEM(pem)
	for _, base := range os.Args[1:] {
		for _, version := range []int{1, 2} {
			if version == 2 && strings.HasPrefix(base, "http:") {
				continue
			}
			transport := &http.Transport{
				TLSClientConfig:       &tls.Config{RootCAs: roots},
				ForceAttemptHTTP2:     version == 2,
				ExpectContinueTimeout: 30 * time.Second,
			}
			(&client{http.Client{Transport: transport}, base}).check(version)
		}
	}
}
