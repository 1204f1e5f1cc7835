package image

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"regexp"
)

// dockerManifest is an entry of a docker-archive's manifest.json.
type dockerManifest struct {
	Config   string
	RepoTags []string
	Layers   []string
}

var configDigest = regexp.MustCompile(`^(?:blobs/sha256/|sha256:)?([0-9a-f]{64})(?:\.json)?$`)

// openDockerArchive opens the image of a "docker save".
func (i *Image) openDockerArchive(ctx context.Context, x *tarIndex, ref string, opts Options) error {
	read := func(name string) ([]byte, error) {
		b, err := x.blob(cleanName(name))
		if err != nil {
			return nil, err
		}
		return readBlob(ctx, b, fmt.Sprintf("%.100q", name), b.Size(), "")
	}
	raw, err := read("manifest.json")
	if err != nil {
		return err
	}
	var list []dockerManifest
	if err := json.Unmarshal(raw, &list); err != nil {
		return fmt.Errorf("its manifest.json is damaged: %w", err)
	}
	m, err := oneOfArchive(list, ref)
	if err != nil {
		return err
	}
	config, err := read(m.Config)
	if err != nil {
		return fmt.Errorf("its configuration is missing: %w", err)
	}
	sum := sha256.Sum256(config)
	id := hex.EncodeToString(sum[:])
	if got := configDigest.FindStringSubmatch(m.Config); got != nil && got[1] != id {
		return fmt.Errorf("its configuration is damaged: its digest is %s, not %s; save the image again", short(id), short(got[1]))
	}
	c, err := parseConfig(config)
	if err != nil {
		return err
	}
	if err := i.setConfig(c, opts.Arch); err != nil {
		return err
	}
	if len(m.Layers) != len(c.RootFS.DiffIDs) || len(m.Layers) > maxLayers {
		return fmt.Errorf("its manifest.json lists %d layers but its configuration %d", len(m.Layers), len(c.RootFS.DiffIDs))
	}
	i.Digest = "sha256:" + id
	for n, name := range m.Layers {
		diffID := c.RootFS.DiffIDs[n].String()
		i.Layers = append(i.Layers, &Layer{
			Name:   fmt.Sprintf("%d of %d (%.100q)", n+1, len(m.Layers), name),
			DiffID: diffID,
			Size:   -1,
			open: func(context.Context) (blob, error) {
				return x.blob(cleanName(name))
			},
		})
	}
	return nil
}

func oneOfArchive(list []dockerManifest, ref string) (dockerManifest, error) {
	var tags []string
	for _, m := range list {
		tags = append(tags, m.RepoTags...)
		for _, t := range m.RepoTags {
			if ref != "" && (t == ref || t == ref+":latest") {
				return m, nil
			}
		}
	}
	switch {
	case len(list) == 0:
		return dockerManifest{}, errors.New("there is no image in it")
	case ref != "":
		return dockerManifest{}, fmt.Errorf("there is no image called %q in it, there are %s", ref, listNames(tags))
	case len(list) > 1:
		return dockerManifest{}, fmt.Errorf("there are several images in it: %s; name one behind a colon, as in docker-archive:PATH:NAME", listNames(tags))
	}
	return list[0], nil
}
