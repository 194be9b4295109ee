"""What a device other than the CPU needs: copies that do not wait, numbers that are read together, TF32."""
