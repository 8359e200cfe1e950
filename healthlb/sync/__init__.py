"""The sync face: a `grpc.Channel` over its subchannels."""
