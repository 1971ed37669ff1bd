package backends

// Sampler is implemented by kinds that can write a first definition: `latent-engine init`.
type Sampler interface {
	// Sample makes a commented definition with one backend of this kind and one worker, "linux", which loads and renders as it
	// stands with -p branch=main. It looks for the backend where its own tools do (environ gives the environment's variables) and
	// speaks to none.
	Sample(environ func(name string) string) Sample
}

// Sample is a first definition.
type Sample struct {
	Text    string // the file
	Address string // where the backend is expected
	Source  string // what says so; "" = nothing does, it is the default
}
