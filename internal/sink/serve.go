package sink

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/http"
	"time"

	"postrider"
	"postrider/signature"
)

// stopWait is how long requests under way may take to end at a stop.
const stopWait = 5 * time.Second

// Run is the command: it listens on an address, serves a new sink, and writes
// the counts to Out when the context ends, which is no error.
func Run(ctx context.Context, listen string, options Options) error {
	if err := check(options); err != nil {
		return err
	}
	if listen == "" {
		listen = DefaultListen
	}
	listener, err := new(net.ListenConfig).Listen(ctx, "tcp", listen)
	if err != nil {
		return fmt.Errorf("listen for deliveries: %w", err)
	}
	s := New(options)
	if !options.JSON {
		fmt.Fprintf(s.options.Out, "Receiving on http://%s\n", listener.Addr())
	}
	err = Serve(ctx, listener, s)
	if !options.JSON {
		s.Counts().WriteTo(s.options.Out) //nolint:errcheck // nobody is left to tell
	}
	return err
}

// check refuses options that could not do what they say.
func check(options Options) error {
	var faults postrider.Faults
	if options.Status != 0 && (options.Status < 200 || options.Status > 599) {
		faults.Add(&postrider.Error{
			Kind: postrider.Invalid, Field: "status", Code: "invalid_status", Detail: "A final status is 200 to 599.",
		})
	}
	if options.Fail < 0 || options.Fail > 1 {
		faults.Add(&postrider.Error{
			Kind: postrider.Invalid, Field: "fail", Code: "invalid_fraction", Detail: "The fraction that fails is 0 to 1.",
		})
	}
	if options.Delay < 0 {
		faults.Add(&postrider.Error{
			Kind: postrider.Invalid, Field: "delay", Code: "invalid_delay", Detail: "A delay is not negative.",
		})
	}
	if options.Secrets != nil {
		if secrets := options.Secrets(); len(secrets) > 0 {
			if _, err := signature.NewVerifier(signature.Options{Secrets: secrets}); err != nil {
				faults.Add(&postrider.Error{
					Kind: postrider.Invalid, Field: "secret", Code: "invalid_secret",
					Detail: "This cannot be a secret: it is one line, not empty, and what follows whsec_ is base64.",
				})
			}
		}
	}
	return faults.Err()
}

// Serve serves a handler until the context ends. Requests under way then end;
// delays are cut short. It closes the listener.
func Serve(ctx context.Context, listener net.Listener, handler http.Handler) error {
	server := &http.Server{
		Handler:           handler,
		ReadHeaderTimeout: 5 * time.Second,
		ReadTimeout:       30 * time.Second,
		IdleTimeout:       2 * time.Minute,
		MaxHeaderBytes:    64 << 10,
		// No WriteTimeout: how long the answer takes is what --delay asks for.
		BaseContext: func(net.Listener) context.Context { return ctx },
	}
	ended := make(chan error, 1)
	go func() { ended <- server.Serve(listener) }()
	select {
	case err := <-ended:
		return fmt.Errorf("receive deliveries: %w", err)
	case <-ctx.Done():
	}
	stopping, cancel := context.WithTimeout(context.WithoutCancel(ctx), stopWait)
	defer cancel()
	err := server.Shutdown(stopping)
	if errors.Is(err, context.DeadlineExceeded) {
		err = server.Close() // a sender that does not end its request has had its time
	}
	if served := <-ended; !errors.Is(served, http.ErrServerClosed) {
		err = errors.Join(err, served)
	}
	return err
}
