"""The weights of diffusion_explained that were trained on CIFAR-10; its `load_pretrained` finds them here.

A distribution of its own, because a package index takes no file over 100 MB.
"""
