"""The methods: for each one, the place that binds its parts."""
