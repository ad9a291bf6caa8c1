// A server for looking at a pod from inside: it resolves names, writes and reads files, and calls the API server.
package main

import (
	"crypto/tls"
	"crypto/x509"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
)

const accounts = "/var/run/secrets/kubernetes.io/serviceaccount/"

func main() {
	if len(os.Args) > 1 {
		fmt.Println("said", os.Args[1])
		return
	}
	answer("/ready", func(*http.Request) (string, error) { return "ready", nil })
	answer("/lookup", func(request *http.Request) (string, error) {
		found, err := net.LookupHost(request.FormValue("name"))
		return fmt.Sprint(found), err
	})
	answer("/write", func(request *http.Request) (string, error) {
		return "written", os.WriteFile(request.FormValue("path"), []byte(request.FormValue("text")), 0o600)
	})
	answer("/read", func(request *http.Request) (string, error) {
		text, err := os.ReadFile(request.FormValue("path"))
		return string(text), err
	})
	answer("/whoami", func(*http.Request) (string, error) { return whoami() })
	fmt.Println("listening")
	fmt.Fprintln(os.Stderr, http.ListenAndServe(":8080", nil))
	os.Exit(1)
}

func answer(path string, function func(*http.Request) (string, error)) {
	http.HandleFunc(path, func(response http.ResponseWriter, request *http.Request) {
		text, err := function(request)
		if err != nil {
			http.Error(response, err.Error(), http.StatusInternalServerError)
			return
		}
		fmt.Fprint(response, text)
	})
}

func whoami() (string, error) {
	token, err := os.ReadFile(accounts + "token")
	if err != nil {
		return "", err
	}
	authority, err := os.ReadFile(accounts + "ca.crt")
	if err != nil {
		return "", err
	}
	pool := x509.NewCertPool()
	pool.AppendCertsFromPEM(authority)
	client := http.Client{Transport: &http.Transport{TLSClientConfig: &tls.Config{RootCAs: pool}}}
	request, err := http.NewRequest(http.MethodGet, "https://kubernetes.default.svc/api/v1/namespaces/default/secrets", nil)
	if err != nil {
		return "", err
	}
	request.Header.Set("Authorization", "Bearer "+string(token))
	response, err := client.Do(request)
	if err != nil {
		return "", err
	}
	defer response.Body.Close()
	text, err := io.ReadAll(response.Body)
	return string(text), err
}
