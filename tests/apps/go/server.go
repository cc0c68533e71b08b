// Its release, at once or line by line.
package main

import (
	"context"
	"errors"
	"fmt"
	"log"
	"net/http"
	"os"
	"os/signal"
	"strings"
	"syscall"
	"time"
)

func main() {
	text, err := os.ReadFile("VERSION")
	if err != nil {
		log.Fatal(err)
	}
	release := strings.TrimSpace(string(text))
	http.HandleFunc("/info", func(answer http.ResponseWriter, _ *http.Request) {
		fmt.Fprint(answer, release)
	})
	http.HandleFunc("/slow", func(answer http.ResponseWriter, _ *http.Request) {
		for line := 0; line < 15; line++ {
			fmt.Fprintln(answer, release)
			answer.(http.Flusher).Flush()
			time.Sleep(200 * time.Millisecond)
		}
	})
	server := &http.Server{Addr: ":" + os.Getenv("PORT")}
	told, ended := make(chan os.Signal, 1), make(chan error, 1)
	signal.Notify(told, syscall.SIGTERM)
	go func() {
		<-told
		ended <- server.Shutdown(context.Background())
	}()
	if err := server.ListenAndServe(); !errors.Is(err, http.ErrServerClosed) {
		log.Fatal(err)
	}
	if err := <-ended; err != nil {
		log.Fatal(err)
	}
	log.Print("shut down")
}
