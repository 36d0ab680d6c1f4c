package config

// Default has the settings of a server that is told nothing. It runs on a
// laptop.
func Default() Serve {
	settings := new(Serve)
	for _, flag := range flagsOf(settings) {
		if err := flag.Reset(); err != nil {
			panic("config: a default cannot be read: " + err.Error())
		}
	}
	return *settings
}
