// Package deploy holds what brings the image into clouds and onto libvirt: templates, scripts and sample configurations.
// Its tests check them as far as that goes without a cloud, and run those for libvirt.
package deploy
