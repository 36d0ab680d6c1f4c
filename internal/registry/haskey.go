package registry

import "crypto/sha256"

// HasKey reports whether a key of this hash is valid now. What was begun with
// a key, such as a session, ends when the key is revoked.
func (r *Registry) HasKey(hash [sha256.Size]byte) bool {
	r.mu.RLock()
	defer r.mu.RUnlock()
	_, found := r.keys[hash]
	return found
}
