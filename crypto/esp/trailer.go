package esp

// putTrailer writes padding, pad length and next header behind n bytes of
// payload; plain reaches to the ICV.
func putTrailer(plain []byte, n int, next byte) {
	end := len(plain) - trailerSize
	for i := n; i < end; i++ {
		plain[i] = byte(i - n + 1)
	}
	plain[end] = byte(end - n)
	plain[end+1] = next
}

// cutTrailer takes the trailer off an opened frame's content. The padding must
// be 1, 2, 3.. and end on a boundary of 4 bytes (RFC 4303 2.4); up to 255 bytes
// are allowed to whoever holds the key.
func cutTrailer(plain []byte) (payload []byte, next byte, err error) {
	end := len(plain) - trailerSize
	if end < 0 || len(plain)%alignment != 0 {
		return nil, 0, ErrPadding
	}
	n := end - int(plain[end])
	if n < 0 {
		return nil, 0, ErrPadding
	}
	for i := n; i < end; i++ {
		if plain[i] != byte(i-n+1) {
			return nil, 0, ErrPadding
		}
	}
	return plain[:n:n], plain[end+1], nil
}
