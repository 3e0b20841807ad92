"""The playground: a web page on which to send requests through the gateway and see their tolls."""
