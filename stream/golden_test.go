package stream

import (
	"flag"
	"testing"
	"time"

	"github.com/nats-io/nats-server/v2/server"
	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"
)

var keepStreams = flag.String("keep-streams", "", "let the streams in this `directory` keep their events for ever: a step of scripts/golden-database")

// Streams expire their events after 30 days, those in testdata too. So their limit is
// taken away by this, as an operator would do it on a broker.
func TestKeepStreams(t *testing.T) {
	if *keepStreams == "" {
		t.Skip("only with -keep-streams, for a new database in testdata")
	}
	s, err := server.NewServer(&server.Options{JetStream: true, StoreDir: *keepStreams, DontListen: true, NoSigs: true})
	if err != nil {
		t.Fatal(err)
	}
	s.Start()
	defer s.WaitForShutdown()
	defer s.Shutdown()
	if !s.ReadyForConnections(10 * time.Second) {
		t.Fatal("the server did not start")
	}
	nc, err := nats.Connect("", nats.InProcessServer(s))
	if err != nil {
		t.Fatal(err)
	}
	defer nc.Close()
	js, err := jetstream.New(nc)
	if err != nil {
		t.Fatal(err)
	}
	kept := 0
	for info := range js.ListStreams(t.Context()).Info() {
		info.Config.MaxAge = 0
		if _, err := js.UpdateStream(t.Context(), info.Config); err != nil {
			t.Fatal(err)
		}
		kept++
	}
	if kept == 0 {
		t.Error("there are no streams")
	}
}
