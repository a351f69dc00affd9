// The Go server of tests/real_servers.rs: it finds its socket as sd_listen_fds(3) says, by name, and tells that it
// is ready as sd_notify(3) does.
package main

import (
	"context"
	"fmt"
	"log"
	"net"
	"net/http"
	"os"
	"os/signal"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"time"
)

const firstSocket = 3

// listenerNamed takes the socket that LISTEN_FDNAMES calls name.
func listenerNamed(name string) (net.Listener, error) {
	if os.Getenv("LISTEN_PID") != strconv.Itoa(os.Getpid()) {
		return nil, fmt.Errorf("LISTEN_PID is %q, this is %d", os.Getenv("LISTEN_PID"), os.Getpid())
	}
	count, _ := strconv.Atoi(os.Getenv("LISTEN_FDS"))
	for i, found := range strings.Split(os.Getenv("LISTEN_FDNAMES"), ":") {
		if found == name && i < count {
			return net.FileListener(os.NewFile(uintptr(firstSocket+i), name))
		}
	}
	return nil, fmt.Errorf("no %q in LISTEN_FDNAMES=%q", name, os.Getenv("LISTEN_FDNAMES"))
}

func notify(state string) error {
	connection, err := net.Dial("unixgram", os.Getenv("NOTIFY_SOCKET"))
	if err != nil {
		return err
	}
	defer connection.Close()
	_, err = connection.Write([]byte(state))
	return err
}

func main() {
	stop := make(chan os.Signal, 1)
	signal.Notify(stop, syscall.SIGTERM)
	listener, err := listenerNamed("web")
	if err != nil {
		log.Fatal(err)
	}
	generation := os.Getenv("EINHORN_GENERATION")

	var stopping atomic.Bool
	var open sync.WaitGroup
	http.HandleFunc("/", func(w http.ResponseWriter, r *http.Request) {
		// Whoever keeps a connection learns with an answer that it was the last one on it.
		if stopping.Load() {
			w.Header().Set("Connection", "close")
		}
		w.Header().Set("X-Worker", fmt.Sprintf("%d %s", os.Getpid(), generation))
		fmt.Fprintf(w, "generation %s, worker %d\n", generation, os.Getpid())
	})
	server := &http.Server{IdleTimeout: 10 * time.Second, ConnState: func(_ net.Conn, state http.ConnState) {
		switch state {
		case http.StateNew:
			open.Add(1)
		case http.StateClosed, http.StateHijacked:
			open.Done()
		}
	}}
	ended := make(chan error, 1)
	go func() { ended <- server.Serve(listener) }()
	if err := notify("READY=1"); err != nil {
		log.Fatal(err)
	}

	<-stop
	stopping.Store(true)
	listener.Close()
	<-ended // nothing is accepted any more
	// Shutdown would cut idle connections, with a request perhaps on its way: it gets those that are left after
	// their last answer.
	open.Wait()
	server.Shutdown(context.Background())
}
