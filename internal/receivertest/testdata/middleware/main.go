// A receiver made with the middleware of package signature, as a partner would
// write it.
package main

import (
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"fmt"
	"log"
	"net"
	"net/http"
	"os"
	"sync"
	"time"

	"postrider/signature"
)

func main() {
	receiver, err := signature.NewReceiver(signature.ReceiverOptions{
		Secrets: []string{os.Getenv("WEBHOOK_SECRET")}, Remember: 10_000,
	})
	if err != nil {
		log.Fatal(err)
	}
	listener, err := net.Listen("tcp", "127.0.0.1:"+os.Getenv("PORT"))
	if err != nil {
		log.Fatal(err)
	}
	mux := http.NewServeMux()
	mux.Handle("POST /api/callback", receiver.Middleware(http.HandlerFunc(save)))
	server := http.Server{Handler: mux, ReadHeaderTimeout: 5 * time.Second, ReadTimeout: 30 * time.Second}
	fmt.Printf("http://%s/api/callback\n", listener.Addr())
	log.Fatal(server.Serve(listener))
}

var mu sync.Mutex // over standard output

func save(w http.ResponseWriter, r *http.Request) {
	delivery, ok := signature.DeliveryFrom(r.Context())
	if !ok {
		w.WriteHeader(http.StatusInternalServerError)
		return
	}
	sum := sha256.Sum256(delivery.Payload)
	mu.Lock()
	defer mu.Unlock()
	if err := json.NewEncoder(os.Stdout).Encode(map[string]any{
		"event": delivery.Event, "delivery": delivery.ID, "bytes": len(delivery.Payload), "sha256": hex.EncodeToString(sum[:]),
	}); err != nil {
		w.WriteHeader(http.StatusInternalServerError)
		return
	}
	w.WriteHeader(http.StatusNoContent)
}
