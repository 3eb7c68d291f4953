"""What must hold on real servers."""
