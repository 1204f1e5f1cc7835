package image

import (
	"fmt"
	"sort"
	"strings"

	v1 "github.com/google/go-containerregistry/pkg/v1"
)

// fits reports whether p is linux on arch. A variant only matters for 64-bit
// arm, where v8 is the one that bake makes apps for.
func fits(p *v1.Platform, arch string) bool {
	return p != nil && p.OS == "linux" && p.Architecture == arch &&
		(arch != "arm64" || p.Variant == "" || p.Variant == "v8")
}

// isAttestation tells the entries of an index that are about images but aren't
// any: BuildKit's provenance and SBOMs.
func isAttestation(d v1.Descriptor) bool {
	return d.Annotations["vnd.docker.reference.type"] != "" ||
		d.Platform != nil && d.Platform.OS == "unknown" && d.Platform.Architecture == "unknown"
}

// pick chooses the image of an index for arch.
func pick(list []v1.Descriptor, arch string) (v1.Descriptor, error) {
	var images []v1.Descriptor
	for _, d := range list {
		if !isAttestation(d) {
			images = append(images, d)
		}
	}
	if len(images) == 0 {
		return v1.Descriptor{}, fmt.Errorf("it is an index without any image")
	}
	for _, d := range images {
		if fits(d.Platform, arch) {
			return d, nil
		}
	}
	if len(images) == 1 && images[0].Platform == nil {
		return images[0], nil // its configuration says what it is for
	}
	seen := map[string]bool{}
	var offers, usable []string
	for _, d := range images {
		name := "an unnamed platform"
		if d.Platform != nil {
			name = platformName(d.Platform.OS, d.Platform.Architecture, d.Platform.Variant)
		}
		if seen[name] {
			continue
		}
		seen[name] = true
		offers = append(offers, name)
		for _, a := range []string{"amd64", "arm64"} {
			if fits(d.Platform, a) {
				usable = append(usable, "--arch "+a)
			}
		}
	}
	sort.Strings(offers)
	if len(offers) > 12 {
		offers = append(offers[:12], "...")
	}
	cure := "name another image, bake makes apps for linux/amd64 and linux/arm64"
	if len(usable) > 0 {
		cure = "pass " + strings.Join(usable, " or ") + ", or name another image"
	}
	return v1.Descriptor{}, fmt.Errorf("there is no image for linux/%s in it, it offers %s; %s", arch, strings.Join(offers, ", "), cure)
}

// checkPlatform compares what a configuration says with what was asked for. An
// image that says nothing fits.
func checkPlatform(c *v1.ConfigFile, arch string) error {
	os := c.OS
	if os == "" {
		os = "linux"
	}
	if c.Architecture == "" || os == "linux" && c.Architecture == arch {
		return nil
	}
	cure := "name another image, bake makes apps for linux/amd64 and linux/arm64"
	if os == "linux" && (c.Architecture == "amd64" || c.Architecture == "arm64") {
		cure = fmt.Sprintf("pass --arch %s, or name another image", c.Architecture)
	}
	return fmt.Errorf("the image is for %s, not for linux/%s; %s", platformName(os, c.Architecture, c.Variant), arch, cure)
}

func platformName(os, arch, variant string) string {
	name := os + "/" + arch
	if variant != "" {
		name += "/" + variant
	}
	if len(name) > 60 {
		name = name[:60]
	}
	return strings.ToValidUTF8(name, "?")
}

// setConfig takes over the configuration document.
func (i *Image) setConfig(c *v1.ConfigFile, arch string) error {
	if err := checkPlatform(c, arch); err != nil {
		return err
	}
	i.Arch = arch
	i.Config = Config{
		Entrypoint:   c.Config.Entrypoint,
		Cmd:          c.Config.Cmd,
		Env:          c.Config.Env,
		WorkingDir:   c.Config.WorkingDir,
		User:         c.Config.User,
		ExposedPorts: c.Config.ExposedPorts,
		StopSignal:   c.Config.StopSignal,
		Labels:       c.Config.Labels,
		Volumes:      c.Config.Volumes,
		Healthcheck:  c.Config.Healthcheck,
	}
	return nil
}
