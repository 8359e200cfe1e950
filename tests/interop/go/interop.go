// A grpc-go server or client for tests, steered by lines on stdin; it ends with its stdin.
//
//	interop serve ADDRESS NAME      "SERVING svc" sets a status. /test.Echo/Unary answers NAME.
//	interop call SERVICE ADDRESS... each line makes one call; its answer, or its code, is a line.
package main

import (
	"bufio"
	"context"
	"fmt"
	"net"
	"os"
	"strings"
	"time"

	"github.com/golang/protobuf/proto"
	"google.golang.org/grpc"
	"google.golang.org/grpc/backoff"
	"google.golang.org/grpc/encoding"
	"google.golang.org/grpc/health"
	healthpb "google.golang.org/grpc/health/grpc_health_v1"
	"google.golang.org/grpc/resolver"
	"google.golang.org/grpc/resolver/manual"
	"google.golang.org/grpc/status"
)

const patience = 15 * time.Second

// Bytes go as they are, everything else as protobuf.
type codec struct{}

func (codec) Name() string { return "proto" }

func (codec) Marshal(value interface{}) ([]byte, error) {
	if raw, ok := value.(*[]byte); ok {
		return *raw, nil
	}
	return proto.Marshal(value.(proto.Message))
}

func (codec) Unmarshal(data []byte, value interface{}) error {
	if raw, ok := value.(*[]byte); ok {
		*raw = append([]byte(nil), data...)
		return nil
	}
	return proto.Unmarshal(data, value.(proto.Message))
}

func main() {
	encoding.RegisterCodec(codec{})
	fmt.Println(grpc.Version)
	if os.Args[1] == "serve" {
		serve(os.Args[2], os.Args[3])
	} else {
		call(os.Args[2], os.Args[3:])
	}
}

func serve(address, name string) {
	listener, err := net.Listen("tcp", address)
	fail(err)
	answer := []byte(name)
	handle := func(_ interface{}, _ context.Context, decode func(interface{}) error, _ grpc.UnaryServerInterceptor) (interface{}, error) {
		return &answer, decode(new([]byte))
	}
	server := grpc.NewServer()
	server.RegisterService(&grpc.ServiceDesc{
		ServiceName: "test.Echo",
		HandlerType: (*interface{})(nil),
		Methods:     []grpc.MethodDesc{{MethodName: "Unary", Handler: handle}},
	}, struct{}{})
	statuses := health.NewServer()
	statuses.SetServingStatus("svc", healthpb.HealthCheckResponse_SERVING)
	healthpb.RegisterHealthServer(server, statuses)
	go func() { fail(server.Serve(listener)) }()
	fmt.Println("ready")
	for lines := bufio.NewScanner(os.Stdin); lines.Scan(); {
		words := strings.Fields(lines.Text())
		number := healthpb.HealthCheckResponse_ServingStatus_value[words[0]]
		statuses.SetServingStatus(words[1], healthpb.HealthCheckResponse_ServingStatus(number))
		fmt.Println("done")
	}
}

func call(service string, addresses []string) {
	fixed := manual.NewBuilderWithScheme("fixed")
	var state resolver.State
	for _, address := range addresses {
		state.Addresses = append(state.Addresses, resolver.Address{Addr: address})
	}
	fixed.InitialState(state)
	config := `{"loadBalancingConfig": [{"round_robin": {}}], "healthCheckConfig": {"serviceName": "%s"}}`
	quick := backoff.Config{BaseDelay: 100 * time.Millisecond, Multiplier: 1, MaxDelay: 200 * time.Millisecond}
	channel, err := grpc.Dial("fixed:///", grpc.WithInsecure(), grpc.WithResolvers(fixed),
		grpc.WithDefaultServiceConfig(fmt.Sprintf(config, service)),
		grpc.WithConnectParams(grpc.ConnectParams{Backoff: quick, MinConnectTimeout: patience}))
	fail(err)
	fmt.Println("ready")
	for lines := bufio.NewScanner(os.Stdin); lines.Scan(); {
		fmt.Println(once(channel))
	}
}

func once(channel *grpc.ClientConn) string {
	limited, cancel := context.WithTimeout(context.Background(), patience)
	defer cancel()
	request, answer := []byte("ping"), []byte(nil)
	err := channel.Invoke(limited, "/test.Echo/Unary", &request, &answer)
	if err != nil {
		return status.Code(err).String()
	}
	return string(answer)
}

func fail(err error) {
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
}
