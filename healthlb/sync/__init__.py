"""The sync face: a `grpc.Channel` over the pool of subchannels."""
