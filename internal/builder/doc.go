// Package builder is the build role: it turns an image source into an app.
//
// It finds what an app is made of (carrier, initrd, kernel, hypervisor), asks
// package image for the image and package rootfs for its filesystem, and
// writes it all as one payload into a copy of the carrier. It boots nothing and
// knows nothing of hypervisors but the files to embed.
package builder
