// A stand-in for Triton: HTTP/1.1 on 8000 and gRPC on 8001, both answer with the name of the revision.
package main

import (
	"encoding/binary"
	"io"
	"log"
	"net/http"
	"os"
)

func main() {
	revision := os.Args[1]
	go func() { log.Fatal(http.ListenAndServe(":8000", http.HandlerFunc(plain(revision)))) }()
	protocols := new(http.Protocols)
	protocols.SetUnencryptedHTTP2(true)
	server := &http.Server{Addr: ":8001", Handler: http.HandlerFunc(rpc(revision)), Protocols: protocols}
	log.Fatal(server.ListenAndServe())
}

func plain(revision string) http.HandlerFunc {
	return func(response http.ResponseWriter, _ *http.Request) {
		io.WriteString(response, revision)
	}
}

// One message to one message, whatever the method: a zero byte (not compressed), the length, the bytes.
func rpc(revision string) http.HandlerFunc {
	return func(response http.ResponseWriter, request *http.Request) {
		io.Copy(io.Discard, request.Body)
		response.Header().Set("Content-Type", "application/grpc")
		response.Header().Set("Trailer", "Grpc-Status")
		response.Write(binary.BigEndian.AppendUint32([]byte{0}, uint32(len(revision))))
		io.WriteString(response, revision)
		response.Header().Set("Grpc-Status", "0")
	}
}
