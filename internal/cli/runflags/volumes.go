package runflags

import (
	"fmt"

	"bake/internal/app"
	"bake/internal/volume"
)

// parseVolumes reads -v, --tmpfs and --volume-mode.
func (f *Flags) parseVolumes(o *app.Options) error {
	mode := f.volumeMode
	switch mode {
	case app.VolumeModeAuto:
		mode = ""
	case app.VolumeMode9P, app.VolumeModeVirtioFS:
	default:
		return fmt.Errorf("--volume-mode %q is none: give %s, %s or %s", mode, app.VolumeModeAuto, app.VolumeMode9P, app.VolumeModeVirtioFS)
	}
	for _, v := range f.volumes {
		s, err := volume.Parse(v)
		if err != nil {
			return err
		}
		if s.Kind == volume.KindShare {
			s.Mode = mode
		}
		o.Volumes = append(o.Volumes, s)
	}
	for _, v := range f.tmpfs {
		s, err := volume.ParseTmpfs(v)
		if err != nil {
			return err
		}
		o.Volumes = append(o.Volumes, s)
	}
	return nil
}
